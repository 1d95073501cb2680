/* halving.c: sums in a fixed order: the second half is added to the first, which is one longer if their number is odd, until one is
 * left. Long sums are made in pieces, so that no array of terms is needed.
 */
#include <string.h>

#include "drivers/drive.h"

/* Terms of up to WHOLE bytes are added up in one buffer. More of them are added in pieces of LEVEL_PIECE sums of several halvings. */
enum { WHOLE = 8192, LEVEL_PIECE = 128 };

/* Sums of neighbouring columns: the terms of one index of the outer axis begin at number `at`. */
typedef struct {
  const fd_halving *terms;
  int64_t at;
} place;

/* Writes n sums after `level` halvings of the length, from sum `first` on. */
static void write_level(const place *of, int level, int64_t first, int64_t n, char *out) {
  _Alignas(64) char second[LEVEL_PIECE * 8];
  const fd_halving *terms = of->terms;
  if (!level) {
    terms->write(terms->from, of->at + first, n, out);
    return;
  }
  int64_t length = terms->length; /* after level - 1 halvings */
  for (int k = 1; k < level; k++) length = (length + 1) / 2;
  const int64_t half = (length + 1) / 2, more = fd_min(n, (length - half) * terms->inner - first);
  write_level(of, level - 1, first, n, out);
  if (more <= 0) return;
  write_level(of, level - 1, first + half * terms->inner, more, second);
  terms->isa->row_add[terms->is_double](out, second, more);
}

static int64_t size_of(const fd_halving *terms) { return terms->is_double ? 8 : 4; }

/* The sums of n of many columns, some columns at a time. */
static void sum_columns(const place *of, int64_t first, int64_t n, char *out) {
  int level = 0;
  for (int64_t length = of->terms->length; length > 1; level++) length = (length + 1) / 2;
  for (int64_t some; n > 0; n -= some, first += some, out += some * size_of(of->terms)) {
    some = fd_min(LEVEL_PIECE, n);
    write_level(of, level, first, some, out);
  }
}

void fd_halve(const fd_halving *terms, int64_t first, void *out) {
  _Alignas(64) char values[WHOLE];
  const place of = {terms, first};
  const int64_t inner = terms->inner, size = size_of(terms);
  int64_t length = terms->length;
  int level = 0;
  if (inner >= LEVEL_PIECE) {
    sum_columns(&of, 0, inner, (char *)out);
    return;
  }
  if (length * inner * size > WHOLE)
    for (; length * inner > LEVEL_PIECE; level++) length = (length + 1) / 2;
  write_level(&of, level, 0, length * inner, values);
  if (inner == 1) terms->isa->row_sums[terms->is_double](values, 1, length);
  for (int64_t half; inner > 1 && length > 1; length = half) {
    half = (length + 1) / 2;
    terms->isa->row_add[terms->is_double](values, values + half * inner * size, (length - half) * inner);
  }
  memcpy(out, values, (size_t)(inner * size));
}

/* Few columns are not divided. */
void fd_halve_share(const fd_halving *terms, int64_t begin, int64_t end, char *out) {
  const int64_t length = terms->length, inner = terms->inner, size = size_of(terms), each = inner < LEVEL_PIECE ? inner : 1;
  const int64_t past = (end + length * each - 1) / (length * each) * each;
  for (int64_t column = (begin + length * each - 1) / (length * each) * each, some; column < past; column += some) {
    const int64_t first = column / inner * inner * length, skip = column % inner;
    const place of = {terms, first};
    some = fd_min(inner - skip, past - column);
    if (each > 1 || inner == 1) fd_halve(terms, first, out + column * size);
    else sum_columns(&of, skip, some, out + column * size);
  }
}
