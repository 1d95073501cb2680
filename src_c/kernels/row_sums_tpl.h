/* row_sums_tpl.h: sums of rows of whole registers, in the order of rows_tpl.h. It is included once per compute type: NAME(f) is f with
 * the prefix of the type.
 *
 * Numbers are loaded as the registers in which they were stored, and the second half is moved to the lanes of the first: a load that
 * begins inside one stored register and ends in the next waits until both have reached the cache.
 */

/* Adds the second half of the first `left` numbers of each row to the first half. */
INLINE void NAME(halve)(COMPUTED *numbers, int64_t rows, int64_t n, int64_t left) {
  const int64_t half = (left + 1) / 2, some = left - half, at = half / LANES_OF * LANES_OF, skip = half % LANES_OF;
  const int64_t whole = some / LANES_OF * LANES_OF;
  for (int64_t row = 0; row < rows; row++, numbers += n) {
    NAME(v) low = NAME(load)(numbers + at);
    for (int64_t i = 0; i < some; i += LANES_OF) {
      const NAME(v) high = NAME(load)(numbers + at + i + LANES_OF), first = NAME(load)(numbers + i), part = NAME(part)(low, high, skip);
      NAME(store)(numbers + i, i < whole ? NAME(add)(first, part) : NAME(add_some)(first, part, some - whole));
      low = high;
    }
  }
}

/* Leaves each row's sum in its first element, and anything in the others. n is a multiple of a register; one more may be read. */
INLINE void NAME(row_sums)(COMPUTED *numbers, int64_t rows, int64_t n) {
  int64_t left = n;
  for (; left > LANES_OF; left = (left + 1) / 2) NAME(halve)(numbers, rows, n, left);
  if (left == LANES_OF)
    for (int64_t row = 0; row < rows; row++) numbers[row * n] = NAME(total)(NAME(load)(numbers + row * n));
  else
    for (; left > 1; left = (left + 1) / 2) NAME(halve)(numbers, rows, n, left);
}

#undef NAME
#undef LANES_OF
#undef COMPUTED
