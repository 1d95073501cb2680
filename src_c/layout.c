/* layout.c: arrays of any strides, walked in the C order of their indices. */
#include <string.h>

#include "drive.h"

void fd_layout_of(fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize) {
  int kept = 0; /* merged axes so far, the innermost last */
  for (int axis = 0; axis < ndim; axis++) {
    if (shape[axis] == 1) continue;
    if (kept && layout->strides[kept - 1] == shape[axis] * strides[axis]) {
      layout->shape[kept - 1] *= shape[axis];
      layout->strides[kept - 1] = strides[axis];
    } else {
      layout->shape[kept] = shape[axis];
      layout->strides[kept++] = strides[axis];
    }
  }
  if (!kept) {
    layout->shape[0] = 1;
    layout->strides[0] = itemsize;
    kept = 1;
  }
  layout->ndim = kept;
}

int fd_layout_is_flat(const fd_layout *layout, int64_t itemsize) {
  return layout->ndim == 1 && layout->strides[0] == itemsize;
}

/* Where a walk is: the index on each axis, and the address of its element. */
typedef struct {
  int64_t index[FD_MAX_DIMS];
  char *at;
} walk;

static walk walk_to(char *array, const fd_layout *layout, int64_t element) {
  walk here;
  here.at = array;
  for (int axis = layout->ndim - 1; axis >= 0; axis--) {
    here.index[axis] = element % layout->shape[axis];
    element /= layout->shape[axis];
    here.at += here.index[axis] * layout->strides[axis];
  }
  return here;
}

/* n steps along the innermost axis, which they do not leave before its end. */
static void walk_on(walk *here, const fd_layout *layout, int64_t n) {
  int axis = layout->ndim - 1;
  here->index[axis] += n;
  here->at += n * layout->strides[axis];
  while (here->index[axis] == layout->shape[axis] && axis > 0) {
    here->at -= layout->shape[axis] * layout->strides[axis];
    here->index[axis] = 0;
    axis--;
    here->index[axis]++;
    here->at += layout->strides[axis];
  }
}

/* A copy of n items with steps of its own on each side; the item's size is a constant to the compiler. */
static void copy_items(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t itemsize) {
  if (to_step == itemsize && from_step == itemsize)
    memcpy(to, from, (size_t)(n * itemsize));
  else if (itemsize == 4)
    for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 4);
  else
    for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, 8);
}

void fd_gather(char *flat, const char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize) {
  const int inner = layout->ndim - 1;
  walk here = walk_to((char *)array, layout, first);
  for (int64_t run; n > 0; n -= run, flat += run * itemsize) {
    run = fd_min(n, layout->shape[inner] - here.index[inner]);
    copy_items(flat, itemsize, here.at, layout->strides[inner], run, itemsize);
    walk_on(&here, layout, run);
  }
}

void fd_scatter(const char *flat, char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize) {
  const int inner = layout->ndim - 1;
  walk here = walk_to(array, layout, first);
  for (int64_t run; n > 0; n -= run, flat += run * itemsize) {
    run = fd_min(n, layout->shape[inner] - here.index[inner]);
    copy_items(here.at, layout->strides[inner], flat, itemsize, run, itemsize);
    walk_on(&here, layout, run);
  }
}
