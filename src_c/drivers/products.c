/* products.c: products of rows and matrices, added in the order of the inputs. */
#include "drivers/drive.h"

/* y[j] = sum of x[i] * weight[i][j]. Four inputs at a time, because the sums are in memory. The vectors are written out, because the
 * compiler's own loops take three times as many instructions for rows of 16. */
#define ROW_PRODUCT(NAME, TYPE, LANES)                                                                    \
  typedef TYPE NAME##_lanes __attribute__((vector_size(LANES * sizeof(TYPE)), aligned(sizeof(TYPE))));    \
  static void NAME(const TYPE *x, const TYPE *weight, int64_t n, int64_t m, TYPE *y) {                    \
    for (int64_t j = 0; j < m; j++) y[j] = 0;                                                             \
    for (; n >= 4; n -= 4, x += 4, weight += 4 * m) {                                                     \
      const TYPE a = x[0], b = x[1], c = x[2], d = x[3], *w = weight;                                     \
      int64_t j = 0;                                                                                      \
      for (; j + LANES <= m; j += LANES, w += LANES) {                                                    \
        NAME##_lanes *sums = (NAME##_lanes *)(y + j);                                                     \
        *sums = (((*sums + a * *(const NAME##_lanes *)w) + b * *(const NAME##_lanes *)(w + m)) +          \
                 c * *(const NAME##_lanes *)(w + 2 * m)) + d * *(const NAME##_lanes *)(w + 3 * m);        \
      }                                                                                                   \
      for (; j < m; j++, w++) y[j] = (((y[j] + a * w[0]) + b * w[m]) + c * w[2 * m]) + d * w[3 * m];      \
    }                                                                                                     \
    for (; n > 0; n--, x++, weight += m)                                                                  \
      for (int64_t j = 0; j < m; j++) y[j] += x[0] * weight[j];                                           \
  }
ROW_PRODUCT(row_product32, float, 4)
ROW_PRODUCT(row_product64, double, 2)

void fd_multiply_rows(const fd_product *call) {
  for (int64_t row = 0; row < call->rows; row++) {
    const int64_t x = row * call->n, weight = x * call->m, y = row * call->m;
    if (call->is_double)
      row_product64((const double *)call->x + x, (const double *)call->weight + weight, call->n, call->m, (double *)call->y + y);
    else
      row_product32((const float *)call->x + x, (const float *)call->weight + weight, call->n, call->m, (float *)call->y + y);
  }
}
