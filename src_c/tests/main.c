/* main.c: the self-test, which tests the kernels without Python, for sanitizers, valgrind and emulated processors.
 *
 *     make -C src_c selftest && src_c/build/selftest fastdrop/known_answers/philox4x32_10.kat
 *
 * Every instruction set that this machine runs is compared with the published known answers and with a direct transcription of
 * the stream's definition (definition.c). The transcription processes one element at a time, computes one block per plane, and
 * shares no code with the kernels. Guard zones surround the outputs.
 */
#include <stdio.h>

#include "selftest.h"

static int failures, checks;

void check(int holds, const char *isa, const char *what, uint64_t first, int64_t n) {
  checks++;
  if (holds) return;
  if (failures++ < 20) fprintf(stderr, "FAILED %s: %s, first %" PRIu64 ", n %" PRId64 "\n", isa, what, first, n);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s philox4x32_10.kat\n", argv[0]);
    return 2;
  }
  check_blocks();
  for (int i = 0; i < fd_isa_count(); i++) {
    const fd_isa *isa = fd_isa_at(i);
    if (!fd_isa_runs(isa)) {
      printf("%s: built, not run: this processor lacks it\n", fd_isa_name(isa));
      continue;
    }
    const int failures_before = failures, checks_before = checks;
    check_stream(isa, argv[1]);
    check_operations(isa);
    check_sums(isa);
    check_layouts(isa);
    check_noise(isa);
    check_selection(isa);
    check_gate(isa);
    printf("%s: %d checks, %d failed\n", fd_isa_name(isa), checks - checks_before, failures - failures_before);
  }
  check_simple();
  check_threads();
  return failures != 0;
}
