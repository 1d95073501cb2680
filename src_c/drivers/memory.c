/* memory.c: asks the system for large pages.
 *
 * The system makes a page when it is first written, and zeroes it. For pages of 4 KiB, this can take four times as long as dropout of
 * their elements; for pages of 2 MiB, about half as long. NumPy asks for large pages itself, other libraries do not.
 */
#include <errno.h>
#include <sys/mman.h>

#include <fastdrop.h>

enum { LARGE_PAGE = 2 << 20, LARGE_RESULT = 4 << 20 };

void fd_use_large_pages(void *data, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t first = ((uintptr_t)data + LARGE_PAGE - 1) & -(uintptr_t)LARGE_PAGE;
  const uintptr_t end = ((uintptr_t)data + (uintptr_t)bytes) & -(uintptr_t)LARGE_PAGE;
  if (bytes < LARGE_RESULT || end <= first) return;
  const int before = errno;
  madvise((void *)first, end - first, MADV_HUGEPAGE); /* a system that refuses uses small pages */
  errno = before;
#else
  (void)data, (void)bytes;
#endif
}
