/* workers.h: the threads that process the pieces of a call. workers_openmp.c or workers_posix.c has these functions and
 * fd_threading; a build has one of the two files. */
#ifndef FASTDROP_WORKERS_H
#define FASTDROP_WORKERS_H

/* Processes one of the pieces of a job. */
typedef void fd_piece(const void *job, int piece);

/* The number of threads, from 1 to `wanted`, that a job of the calling thread can use. The calling thread is one of them. */
int fd_usable_workers(int wanted);

/* Processes each of the pieces 0 .. pieces - 1 once, and returns when all of them have ended. There are at least two pieces, and at
 * most as many as fd_usable_workers has just returned to this thread. */
void fd_run_pieces(fd_piece *run, const void *job, int pieces);

#endif
