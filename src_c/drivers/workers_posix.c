/* workers_posix.c: the threads are a pool of POSIX threads, for builds without OpenMP. The pool is a state of the process.
 *
 * A job is in a list as long as it has pieces that no thread has begun. The calling thread and each idle worker take the next
 * piece, one after another. So a worker that is late delays nobody, and a caller whose workers are busy does all by itself. A
 * thread waits only for pieces that others have begun. So jobs of several callers, or within pieces, cannot block one another.
 *
 * A thread that waits first spins, because waking a thread takes as long as a piece of 100,000 elements. After that it sleeps.
 * A forked child has none of the threads, and another thread may have held the lock. So the child begins with a new pool.
 */
#define _GNU_SOURCE /* for the processors that the process may use */
#include <fastdrop.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "compiler.h"
#include "drivers/workers.h"

enum {
  STACK = 1 << 20,   /* bytes; kernels need 64 KiB, and the C library may put variables of threads there */
  SPIN = 300000,     /* ns; a caller often has that much else to do between two calls */
  EXCLUSIVE = 10000, /* ns; a thread that spins for longer lets others run */
  PAUSES = 16        /* between two looks at the clock */
};

typedef struct job {
  fd_piece *run;
  const void *of;
  int pieces, begun; /* the lock guards these */
  int unfinished;    /* pieces that have not ended */
  struct job *next;
} job;

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t posted, ended;
  int workers, may_spin;
  _Alignas(64) job *jobs; /* those with pieces to begin; it has a cache line of its own, because idle workers read it */
} thread_pool;

#define NEW_POOL \
  {.lock = PTHREAD_MUTEX_INITIALIZER, .posted = PTHREAD_COND_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER}
static thread_pool pool = NEW_POOL;

static void forget_pool(void) { pool = (thread_pool)NEW_POOL; }
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, forget_pool); }

/* Takes the next piece of a job that has one. The lock is held. */
static int begin_piece(job *of) {
  const int piece = of->begun++;
  if (of->begun < of->pieces) return piece;
  job **link = &pool.jobs;
  while (*link != of) link = &(*link)->next;
  __atomic_store_n(link, of->next, __ATOMIC_RELAXED);
  return piece;
}

/* The job is its caller's, who may return as soon as no piece is unfinished. */
static void end_piece(job *of) {
  if (__atomic_sub_fetch(&of->unfinished, 1, __ATOMIC_ACQ_REL)) return;
  pthread_mutex_lock(&pool.lock);
  pthread_cond_broadcast(&pool.ended);
  pthread_mutex_unlock(&pool.lock);
}

static int is_posted(const job *any) { (void)any; return __atomic_load_n(&pool.jobs, __ATOMIC_RELAXED) != NULL; }
static int has_ended(const job *of) { return !__atomic_load_n(&of->unfinished, __ATOMIC_ACQUIRE); }

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Returns when the condition holds, or after a time. */
INLINE void spin_until(int (*holds)(const job *of), const job *of) {
  if (holds(of) || !__atomic_load_n(&pool.may_spin, __ATOMIC_RELAXED)) return;
  const int64_t start = now();
  for (int64_t spent = 0; spent < SPIN; spent = now() - start) {
    if (spent > EXCLUSIVE) sched_yield(); /* the thread that is waited for may need this processor */
    for (int i = 0; i < PAUSES; i++) {
      PAUSE();
      if (holds(of)) return;
    }
  }
}

static void *work(void *unused) {
  for (;;) {
    spin_until(is_posted, NULL);
    pthread_mutex_lock(&pool.lock);
    while (!pool.jobs) pthread_cond_wait(&pool.posted, &pool.lock);
    job *of = pool.jobs;
    const int piece = begin_piece(of);
    pthread_mutex_unlock(&pool.lock);
    of->run(of->of, piece);
    end_piece(of);
  }
  return unused;
}

/* The processors that this process may use. */
static int processors(void) {
#ifdef __linux__
  cpu_set_t usable;
  if (!sched_getaffinity(0, sizeof usable, &usable)) return CPU_COUNT(&usable);
#endif
  return (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* Starts a thread that gets no signals but those of its own faults, and returns whether it started. */
static int start_worker(void) {
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
  sigset_t blocked, before;
  pthread_attr_t attributes;
  pthread_t thread;
  if (pthread_attr_init(&attributes)) return 0;
  pthread_attr_setstacksize(&attributes, STACK);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  sigfillset(&blocked);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&blocked, faults[i]);
  pthread_sigmask(SIG_SETMASK, &blocked, &before); /* the thread inherits the mask */
  const int error = pthread_create(&thread, &attributes, work, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return !error;
}

int fd_usable_workers(int wanted) {
  if (wanted <= 1) return 1;
  pthread_mutex_lock(&pool.lock);
  if (pool.workers < wanted - 1) {
    while (pool.workers < wanted - 1 && start_worker()) pool.workers++;
    __atomic_store_n(&pool.may_spin, pool.workers < processors(), __ATOMIC_RELAXED);
  }
  const int all = pool.workers + 1;
  pthread_mutex_unlock(&pool.lock);
  return wanted < all ? wanted : all;
}

/* Takes the next piece of the calling thread's job, or returns -1 if others have begun the rest. */
static int next_piece(job *own) {
  pthread_mutex_lock(&pool.lock);
  const int piece = own->begun < own->pieces ? begin_piece(own) : -1;
  pthread_mutex_unlock(&pool.lock);
  return piece;
}

void fd_run_pieces(fd_piece *run, const void *of, int pieces) {
  job own = {run, of, pieces, 1, pieces, NULL};
  pthread_mutex_lock(&pool.lock);
  own.next = pool.jobs;
  __atomic_store_n(&pool.jobs, &own, __ATOMIC_RELAXED);
  pthread_mutex_unlock(&pool.lock);
  for (int i = 1; i < pieces; i++) pthread_cond_signal(&pool.posted);
  for (int piece = 0; piece >= 0; piece = next_piece(&own)) {
    run(of, piece);
    __atomic_sub_fetch(&own.unfinished, 1, __ATOMIC_ACQ_REL);
  }
  int before;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before); /* others still use this function's variables */
  spin_until(has_ended, &own);
  pthread_mutex_lock(&pool.lock);
  while (!has_ended(&own)) pthread_cond_wait(&pool.ended, &pool.lock);
  pthread_mutex_unlock(&pool.lock);
  pthread_setcancelstate(before, NULL);
}

const char *fd_threading(void) { return "posix"; }
