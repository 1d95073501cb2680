/* workers_openmp.c: the threads are OpenMP's. No other file uses OpenMP, and its threads are a state of the process.
 *
 * OpenMP has two traps, which the right number of workers avoids. Its threads do not survive a fork, and a child that used them
 * would wait for ever. So a forked child uses one worker. And libgomp ends the process if it cannot start a thread. So before the
 * pool of the calling thread grows, that many threads are started here on trial.
 */
#include <fastdrop.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include "drivers/workers.h"

enum { MOST_TRIALS = 1024, MOST_YIELDS = 1000 };

static int is_fork;
static void set_fork(void) { is_fork = 1; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, set_fork); }

/* The threads of a trial wait at `gate`, so that all of them exist at once. */
typedef struct {
  pthread_mutex_t gate;
  pthread_t threads[MOST_TRIALS];
  long ids[MOST_TRIALS];
  int arrived;
} trial;

static void *wait_at_gate(void *context) {
  trial *run = context;
  pthread_mutex_lock(&run->gate);
#ifdef __linux__
  run->ids[run->arrived++] = syscall(SYS_gettid);
#endif
  pthread_mutex_unlock(&run->gate);
  return NULL;
}

/* A joined thread still counts against the system's limit for a moment, as long as it has its id. */
static void wait_for_end(const trial *run) {
#ifdef __linux__
  int yields = 0;
  for (int i = 0; i < run->arrived; i++)
    while (yields++ < MOST_YIELDS && !syscall(SYS_tgkill, (long)getpid(), run->ids[i], 0L)) sched_yield();
#else
  (void)run;
#endif
}

/* Returns how many of `wanted` further threads can be started. */
static int startable_threads(int wanted) {
  trial run = {.gate = PTHREAD_MUTEX_INITIALIZER};
  int started = 0;
  pthread_mutex_lock(&run.gate);
  while (started < wanted && started < MOST_TRIALS && !pthread_create(&run.threads[started], NULL, wait_at_gate, &run))
    started++;
  pthread_mutex_unlock(&run.gate);
  for (int i = 0; i < started; i++) pthread_join(run.threads[i], NULL);
  wait_for_end(&run);
  return started;
}

int fd_usable_workers(int wanted) {
  static _Thread_local int pool = 1; /* this thread's workers in its last parallel region; libgomp ends those that a region leaves out */
  if (is_fork || wanted <= 1) return 1;
  if (omp_get_level()) pool = 1; /* within another parallel region there is no pool */
  if (wanted > pool) wanted = pool + startable_threads(wanted - pool);
  if (!omp_get_level()) pool = wanted;
  return wanted;
}

void fd_run_pieces(fd_piece *run, const void *job, int pieces) {
#pragma omp parallel for num_threads(pieces) schedule(static)
  for (int piece = 0; piece < pieces; piece++) run(job, piece);
}

const char *fd_threading(void) { return "openmp"; }
