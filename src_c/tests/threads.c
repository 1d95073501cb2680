/* threads.c: callers in several threads, each of which asks for more threads. */
#include <pthread.h>

#include "selftest.h"

enum { CALLERS = 4, CALLS = 60, ELEMENTS = 9 * FD_TILE + 5, BYTES = (ELEMENTS + 7) / 8 };

static uint8_t wanted[BYTES];

/* Makes the mask with 1 to 9 threads, and returns where it is if every mask is right, NULL otherwise. */
static void *call_often(void *made) {
  int equal = 1;
  for (int i = 0; i < CALLS; i++) {
    memset(made, 0xA5, BYTES);
    equal &= !fd_keep_bits(made, ELEMENTS, 0.3, 7, 3, 70, 1 + i % 9) && !memcmp(made, wanted, BYTES);
  }
  return equal ? made : NULL;
}

void check_threads(void) {
  static uint8_t made[CALLERS][BYTES];
  pthread_t callers[CALLERS];
  int started = 0;
  fd_keep_bits(wanted, ELEMENTS, 0.3, 7, 3, 70, 1);
  while (started < CALLERS && !pthread_create(&callers[started], NULL, call_often, made[started])) started++;
  for (int i = 0; i < started; i++) {
    void *right = NULL;
    pthread_join(callers[i], &right);
    check(right != NULL, fd_threading(), "callers at once", 70, ELEMENTS);
  }
  check(call_often(made[0]) != NULL, fd_threading(), "one caller", 70, ELEMENTS);
}
