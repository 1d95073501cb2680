/* halving.c: sums in a fixed order: the second half of the terms is added to the first, which is one longer if their number is odd, until
 * one is left. Long sums are made in pieces, so that no array of terms is needed.
 */
#include <string.h>

#include "drivers/drive.h"

/* Terms of up to WHOLE bytes are halved in one buffer; sums of at most SHORT bytes of terms share the buffer. More terms are halved in
 * pieces, whose second halves share ROOM bytes. Pieces of many columns share COLUMNS_ROOM bytes, because a longer piece is a longer run of
 * memory. Their length is a multiple of COLUMNS, which wastes few words of a batch. The caller may give
 * more room (fd_sum_room): for pieces of MOST_COLUMNS, or for those of a single sum of at least LONG terms. */
enum { WHOLE = 8192, SHORT = 1024, ROOM = 12288, COLUMNS_ROOM = 16384, FEW_COLUMNS = 128, MOST_COLUMNS = 1024, ALIGNED = 16, COLUMNS = 32 };
enum { LONG = 1 << 18, LONG_ROOM = 131072 }; /* for fewer terms, the allocation would take a large part of the time */

/* Sums of neighbouring columns: the terms of one index of the outer axis begin at number `at`. Each halving has its own part of `room`,
 * with space for `most` sums. */
typedef struct {
  const fd_halving *terms;
  int64_t at, most;
  char *room;
} place;

/* Halves are far from each other, so that a processor does not see which elements come next. They are those of the next index of the
 * outer axis or, if there are many terms in between, of the next columns. */
enum { COLUMNS_AHEAD = 1024 };

/* Asks for lines in the second cache: a processor waits for only two dozen lines of the first one, which is half of what memory can do. */
static void fetch(const char *from, int64_t bytes) {
  for (int64_t k = 0; k < bytes; k += 64) __builtin_prefetch(from + k, 0, 2);
}

void fd_fetch_next(const void *array, int64_t itemsize, int64_t length, int64_t inner, int64_t i, int64_t n) {
  const int64_t each = length * inner * itemsize, bytes = n * itemsize;
  if (inner == 1 || n >= length * inner) return; /* neighbours */
  fetch((const char *)array + i * itemsize + (each > FD_NEAR ? bytes : each), bytes);
}

/* The next index is fetched in the order of its elements, four times as many neighbours at a time: memory is faster then. */
void fd_fetch_next_fours(const void *array, int64_t itemsize, int64_t each, const int64_t four[4], int64_t done, int64_t n) {
  const char *from = (const char *)array;
  if (each * itemsize <= FD_NEAR) fetch(from + (four[0] + each + 3 * done) * itemsize, 4 * n * itemsize);
  else
    for (int k = 0; k < 4; k++) fetch(from + four[k] * itemsize + COLUMNS_AHEAD, n * itemsize);
}

static int64_t size_of(const fd_halving *terms) { return terms->is_double ? 8 : 4; }

static int64_t halved(int64_t length, int times) {
  for (; times > 0; times--) length = (length + 1) / 2;
  return length;
}

/* Writes n sums of four terms after two halvings, from sum `first` on; fewer if a term is missing. Returns their number. */
static int64_t write_fours(const place *of, int64_t first, int64_t n, int64_t next, char *out) {
  const fd_halving *terms = of->terms;
  const int64_t half = halved(terms->length, 1), quarter = halved(terms->length, 2), inner = terms->inner;
  const int64_t whole = fd_min(n, (terms->length - half - quarter) * inner - first), begin = of->at + first;
  if (whole <= 0 || !terms->write_fours) return 0;
  const int64_t four[4] = {begin, begin + half * inner, begin + quarter * inner, begin + (half + quarter) * inner};
  terms->write_fours(terms->from, four, whole, next - first, out);
  return whole;
}

/* Writes n sums after `level` halvings of the length, from sum `first` on. Those from sum `next` on are the next to be written. */
static void write_level(const place *of, int level, int64_t first, int64_t n, int64_t next, char *out) {
  const fd_halving *terms = of->terms;
  if (!level) {
    terms->write(terms->from, of->at + first, n, out);
    return;
  }
  if (level == 2) {
    const int64_t written = write_fours(of, first, n, next, out);
    first += written, n -= written, out += written * size_of(terms);
    if (!n) return;
  }
  char *second = of->room + (level - 1) * of->most * size_of(terms);
  const int64_t half = halved(terms->length, level), more = fd_min(n, (halved(terms->length, level - 1) - half) * terms->inner - first);
  write_level(of, level - 1, first, n, more > 0 ? first + half * terms->inner : next, out);
  if (more <= 0) return;
  write_level(of, level - 1, first + half * terms->inner, more, next, second);
  terms->isa->row_add[terms->is_double](out, second, more);
}

/* Writes n sums after `level` halvings of the terms from number `at` on, some at a time: at most `most`, for which there is room. */
static void write_sums(const fd_halving *terms, int64_t at, int level, int64_t first, int64_t n, char *out, char *room, int64_t most) {
  const int64_t size = size_of(terms);
  const place of = {terms, at, most, room};
  for (int64_t some; n > 0; n -= some, first += some, out += some * size) {
    some = fd_min(of.most, n);
    write_level(&of, level, first, some, n > some ? first + some : first, out);
  }
}

static int halvings(int64_t length) {
  int level = 0;
  while (halved(length, level) > 1) level++;
  return level;
}

int64_t fd_sum_room(int64_t length, int64_t inner) {
  if (inner == 1) return length < LONG ? 0 : LONG_ROOM;
  const int64_t columns = (fd_min(inner, MOST_COLUMNS) + COLUMNS - 1) / COLUMNS * COLUMNS, bytes = halvings(length) * columns * 8;
  return inner < FEW_COLUMNS || bytes <= COLUMNS_ROOM ? 0 : bytes;
}

/* The sums of n of many columns. */
static NOINLINE void sum_columns(const fd_halving *terms, int64_t at, int64_t first, int64_t n, char *out) {
  _Alignas(64) char own[COLUMNS_ROOM];
  const int level = halvings(terms->length);
  const int64_t bytes = terms->room ? fd_sum_room(terms->length, terms->inner) : COLUMNS_ROOM;
  const int64_t most = level ? bytes / size_of(terms) / level / COLUMNS * COLUMNS : n;
  write_sums(terms, at, level, first, n, out, terms->room ? terms->room : own, most);
}

/* Halves `length` rows of columns until one is left. */
static void halve_columns(const fd_halving *terms, char *values, int64_t length) {
  const int64_t inner = terms->inner;
  for (int64_t half; length > 1; length = half) {
    half = (length + 1) / 2;
    terms->isa->row_add[terms->is_double](values, values + half * inner * size_of(terms), (length - half) * inner);
  }
}

void fd_halve(const fd_halving *terms, int64_t first, void *out) {
  _Alignas(64) char values[WHOLE], own[ROOM];
  char *room = terms->room ? terms->room : own;
  const int64_t inner = terms->inner, size = size_of(terms), bytes = terms->room ? fd_sum_room(terms->length, inner) : ROOM;
  int64_t length = terms->length;
  int level = 0;
  if (inner >= FEW_COLUMNS) {
    sum_columns(terms, first, 0, inner, (char *)out);
    return;
  }
  if (terms->write_fours && length > 3) level = 2;
  while (length > 1 && halved(length, level) * inner * size > WHOLE) level++;
  length = halved(length, level);
  write_sums(terms, first, level, 0, length * inner, values, room, level ? bytes / size / level / ALIGNED * ALIGNED : length * inner);
  if (inner == 1) terms->isa->row_sums[terms->is_double](values, 1, length);
  else halve_columns(terms, values, length);
  memcpy(out, values, (size_t)(inner * size));
}

/* Writes the sums of as many short columns as fit in a buffer, `times` indices of the outer axis. */
static NOINLINE void halve_together(const fd_halving *terms, int64_t first, int64_t times, char *out) {
  _Alignas(64) char values[WHOLE];
  const int64_t each = terms->length * terms->inner * size_of(terms), bytes = terms->inner * size_of(terms);
  terms->write(terms->from, first, times * terms->length * terms->inner, values);
  if (terms->inner == 1) terms->isa->row_sums[terms->is_double](values, times, terms->length);
  for (int64_t k = 0; k < times; k++) {
    if (terms->inner > 1) halve_columns(terms, values + k * each, terms->length);
    memcpy(out + k * bytes, values + k * each, (size_t)bytes);
  }
}

/* If there are few columns, a share has all of them for each of its indices of the outer axis. */
void fd_halve_share(const fd_halving *terms, int64_t begin, int64_t end, char *out) {
  const int64_t length = terms->length, inner = terms->inner, size = size_of(terms), each = inner < FEW_COLUMNS ? inner : 1;
  const int64_t past = (end + length * each - 1) / (length * each) * each, bytes = length * inner * size;
  const int is_short = inner < FEW_COLUMNS && bytes <= SHORT;
  for (int64_t column = (begin + length * each - 1) / (length * each) * each, some; column < past; column += some) {
    const int64_t first = column / inner * inner * length, skip = column % inner;
    some = fd_min(is_short ? WHOLE / bytes * inner : inner - skip, past - column);
    if (is_short) halve_together(terms, first, some / inner, out + column * size);
    else if (each > 1 || inner == 1) fd_halve(terms, first, out + column * size);
    else sum_columns(terms, first, skip, some, out + column * size);
  }
}
