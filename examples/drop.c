/* drop.c: dropout in a C program without Python. In a checkout:
 *
 *     make -C src_c library
 *     cc -Ifastdrop/include examples/drop.c src_c/build/libfastdrop.a -fopenmp -lm -o drop && ./drop
 *
 * It prints what fastdrop.dropout(np.arange(1, 9, dtype=np.float32), 0.5, seed=42) returns.
 */
#include <fastdrop_simple.h>
#include <stdio.h>

int main(void) {
  float x[8], y[8];
  for (int i = 0; i < 8; i++) x[i] = (float)(i + 1);
  const int error = fd_drop(x, y, 8, FD_FLOAT32, 0.5, 42, 0, 0, 1);
  if (error) {
    fprintf(stderr, "drop: %s\n", fd_error_text(error));
    return 1;
  }
  for (int i = 0; i < 8; i++) printf("%g%c", (double)y[i], i < 7 ? ' ' : '\n');
  return 0;
}
