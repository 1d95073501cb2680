/* halving.c: sums in a fixed order: the second half is added to the first, which is one longer if their number is odd, until one is
 * left. Long sums are made in pieces, so that no array of terms is needed.
 */
#include <string.h>

#include "drivers/drive.h"

/* Terms of up to WHOLE bytes are added up in one buffer. More of them are added in pieces of LEVEL_PIECE sums of several halvings. */
enum { WHOLE = 8192, LEVEL_PIECE = 128 };

/* Writes n sums after `level` halvings of the length, from sum `first` on. */
static void write_level(const fd_halving *terms, int level, int64_t first, int64_t n, char *out) {
  _Alignas(64) char second[LEVEL_PIECE * 8];
  if (!level) {
    terms->write(terms->from, first, n, out);
    return;
  }
  int64_t length = terms->length; /* after level - 1 halvings */
  for (int k = 1; k < level; k++) length = (length + 1) / 2;
  const int64_t half = (length + 1) / 2, more = fd_min(n, (length - half) * terms->inner - first);
  write_level(terms, level - 1, first, n, out);
  if (more <= 0) return;
  write_level(terms, level - 1, first + half * terms->inner, more, second);
  terms->isa->row_add[terms->is_double](out, second, more);
}

/* The sums of many columns, some columns at a time. */
static void sum_columns(const fd_halving *terms, char *out) {
  const int64_t size = terms->is_double ? 8 : 4;
  int level = 0;
  for (int64_t length = terms->length; length > 1; level++) length = (length + 1) / 2;
  for (int64_t first = 0; first < terms->inner; first += LEVEL_PIECE)
    write_level(terms, level, first, fd_min(LEVEL_PIECE, terms->inner - first), out + first * size);
}

void fd_halve(const fd_halving *terms, void *out) {
  _Alignas(64) char values[WHOLE];
  const int64_t inner = terms->inner, size = terms->is_double ? 8 : 4;
  int64_t length = terms->length;
  int level = 0;
  if (inner >= LEVEL_PIECE) {
    sum_columns(terms, (char *)out);
    return;
  }
  if (length * inner * size > WHOLE)
    for (; length * inner > LEVEL_PIECE; level++) length = (length + 1) / 2;
  write_level(terms, level, 0, length * inner, values);
  if (inner == 1) terms->isa->row_sum[terms->is_double](values, length);
  for (int64_t half; inner > 1 && length > 1; length = half) {
    half = (length + 1) / 2;
    terms->isa->row_add[terms->is_double](values, values + half * inner * size, (length - half) * inner);
  }
  memcpy(out, values, (size_t)(inner * size));
}
