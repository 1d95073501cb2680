/* layout.c: walks arrays of any strides in C order. */
#include <string.h>

#include "drivers/drive.h"

void fd_layout_of(fd_layout *layout, int ndim, const int64_t *shape, const int64_t *strides, int64_t itemsize) {
  int kept = 0; /* number of merged axes so far, the innermost last */
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

int64_t fd_place(const fd_layout *layout, int64_t element, int64_t *left) {
  int64_t at = 0;
  for (int axis = layout->ndim - 1; axis >= 0; axis--) {
    const int64_t length = layout->shape[axis], index = element % length;
    if (axis == layout->ndim - 1) *left = length - index;
    element /= length;
    at += index * layout->strides[axis];
  }
  return at;
}

void fd_walk_to(fd_walk *walk, const fd_layout *layout, int64_t element) {
  walk->at = 0;
  for (int axis = layout->ndim - 1; axis >= 0; axis--) {
    walk->index[axis] = element % layout->shape[axis];
    element /= layout->shape[axis];
    walk->at += walk->index[axis] * layout->strides[axis];
  }
}

void fd_walk_on(fd_walk *walk, const fd_layout *layout, int64_t n) { fd_walk_along(walk, layout, layout->ndim - 1, n); }

void fd_walk_along(fd_walk *walk, const fd_layout *layout, int axis, int64_t n) {
  walk->index[axis] += n;
  walk->at += n * layout->strides[axis];
  while (walk->index[axis] == layout->shape[axis] && axis > 0) {
    walk->at -= layout->shape[axis] * layout->strides[axis];
    walk->index[axis] = 0;
    axis--;
    walk->index[axis]++;
    walk->at += layout->strides[axis];
  }
}

INLINE void copy_items(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, const int64_t itemsize) {
  for (int64_t i = 0; i < n; i++) memcpy(to + i * to_step, from + i * from_step, (size_t)itemsize);
}

/* The usual steps are compile-time constants here, so that the compiler vectorizes the copies. */
INLINE void copy_sized(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, const int64_t itemsize) {
  if (to_step == itemsize && from_step == 2 * itemsize)
    copy_items(to, itemsize, from, 2 * itemsize, n, itemsize);
  else if (to_step == itemsize && from_step == -itemsize)
    copy_items(to, itemsize, from, -itemsize, n, itemsize);
  else if (to_step == itemsize && from_step == 0)
    copy_items(to, itemsize, from, 0, n, itemsize);
  else
    copy_items(to, to_step, from, from_step, n, itemsize);
}

void fd_copy_items(char *to, int64_t to_step, const char *from, int64_t from_step, int64_t n, int64_t itemsize) {
  if (to_step == itemsize && from_step == itemsize)
    memcpy(to, from, (size_t)(n * itemsize));
  else if (itemsize == 4)
    copy_sized(to, to_step, from, from_step, n, 4);
  else if (itemsize == 8)
    copy_sized(to, to_step, from, from_step, n, 8);
  else if (itemsize == 2)
    copy_sized(to, to_step, from, from_step, n, 2);
  else
    copy_sized(to, to_step, from, from_step, n, 1);
}

void fd_gather(char *flat, const char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize) {
  const int inner = layout->ndim - 1;
  fd_walk walk;
  fd_walk_to(&walk, layout, first);
  for (int64_t run; n > 0; n -= run, flat += run * itemsize) {
    run = fd_min(n, layout->shape[inner] - walk.index[inner]);
    fd_copy_items(flat, itemsize, array + walk.at, layout->strides[inner], run, itemsize);
    fd_walk_on(&walk, layout, run);
  }
}

void fd_scatter(const char *flat, char *array, const fd_layout *layout, int64_t first, int64_t n, int64_t itemsize) {
  const int inner = layout->ndim - 1;
  fd_walk walk;
  fd_walk_to(&walk, layout, first);
  for (int64_t run; n > 0; n -= run, flat += run * itemsize) {
    run = fd_min(n, layout->shape[inner] - walk.index[inner]);
    fd_copy_items(array + walk.at, layout->strides[inner], flat, itemsize, run, itemsize);
    fd_walk_on(&walk, layout, run);
  }
}

char *fd_neighbours(fd_array array, int64_t first, int64_t n, int64_t itemsize) {
  int64_t left = 0;
  if (fd_layout_is_flat(array.layout, itemsize)) return (char *)array.data + first * itemsize;
  if (array.layout->strides[array.layout->ndim - 1] != itemsize) return 0;
  const int64_t at = fd_place(array.layout, first, &left);
  return n <= left ? (char *)array.data + at : 0;
}

const void *fd_flat_tile(fd_array array, int64_t first, int64_t n, int64_t itemsize, void *buffer) {
  const char *at = fd_neighbours(array, first, n, itemsize);
  if (at) return at;
  fd_gather((char *)buffer, (const char *)array.data, array.layout, first, n, itemsize);
  return buffer;
}
