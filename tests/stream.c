/* STREAM's read, copy and triad in plain C, for a comparison on the same arrays.
 *
 * After J. D. McCalpin's STREAM (www.cs.virginia.edu/stream/ref.html), in float and with one part of the arrays to a
 * thread, which are kept from call to call. With plain stores a cache fetches a line in order to overwrite it; with
 * streaming stores it does not.
 */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
typedef __m512 vector;
#define load _mm512_loadu_ps
#define spread _mm512_set1_ps
#define stream_out _mm512_stream_ps
#elif defined(__AVX__)
typedef __m256 vector;
#define load _mm256_loadu_ps
#define spread _mm256_set1_ps
#define stream_out _mm256_stream_ps
#elif defined(__SSE__)
typedef __m128 vector;
#define load _mm_loadu_ps
#define spread _mm_set1_ps
#define stream_out _mm_stream_ps
#else
#define NO_STREAMING_STORES
#endif

enum pattern { CLEAR, READ, COPY, TRIAD, STREAMING_COPY, STREAMING_TRIAD };

enum { LINE = 16 }; /* floats in a line of the cache */

struct part {
    enum pattern pattern;
    size_t n;
    float *a;
    const float *b, *c;
    int64_t sum;
    struct team *team;
};

struct team {
    int threads;
    pthread_barrier_t begin, end;
    struct part parts[];
};

static void clear(size_t n, float *a)
{
    for (size_t i = 0; i < n; i++)
        a[i] = 0.0f;
}

static int64_t read_sum(size_t n, const int64_t *x)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

static void copy(size_t n, float *restrict a, const float *restrict b)
{
    for (size_t i = 0; i < n; i++)
        a[i] = b[i];
}

static void triad(size_t n, float *restrict a, const float *restrict b, const float *restrict c)
{
    for (size_t i = 0; i < n; i++)
        a[i] = b[i] + 3.0f * c[i];
}

#ifndef NO_STREAMING_STORES
enum { WIDTH = sizeof(vector) / sizeof(float) };

static void streaming_copy(size_t n, float *a, const float *b)
{
    for (size_t i = 0; i < n; i += WIDTH)
        stream_out(a + i, load(b + i));
    _mm_sfence();
}

static void streaming_triad(size_t n, float *a, const float *b, const float *c)
{
    const vector three = spread(3.0f);
    for (size_t i = 0; i < n; i += WIDTH)
        stream_out(a + i, load(b + i) + three * load(c + i));
    _mm_sfence();
}
#else
#define streaming_copy copy
#define streaming_triad triad
#endif

static void stream_part(struct part *p)
{
    switch (p->pattern) {
    case CLEAR: clear(p->n, p->a); break;
    case READ: p->sum = read_sum(p->n / 2, (const int64_t *)p->b); break;
    case COPY: copy(p->n, p->a, p->b); break;
    case TRIAD: triad(p->n, p->a, p->b, p->c); break;
    case STREAMING_COPY: streaming_copy(p->n, p->a, p->b); break;
    case STREAMING_TRIAD: streaming_triad(p->n, p->a, p->b, p->c); break;
    }
}

static void *stream_parts(void *argument)
{
    struct part *p = argument;
    for (;;) {
        pthread_barrier_wait(&p->team->begin);
        stream_part(p);
        pthread_barrier_wait(&p->team->end);
    }
}

/* So many threads, the caller's among them; the others wait for work until the process ends. */
struct team *team(int threads)
{
    struct team *team = calloc(1, sizeof *team + threads * sizeof team->parts[0]);
    pthread_t started;
    team->threads = threads;
    pthread_barrier_init(&team->begin, NULL, threads);
    pthread_barrier_init(&team->end, NULL, threads);
    for (int i = 0; i < threads; i++) {
        team->parts[i].team = team;
        if (i > 0)
            pthread_create(&started, NULL, stream_parts, &team->parts[i]);
    }
    return team;
}

int has_streaming_stores(void)
{
#ifdef NO_STREAMING_STORES
    return 0;
#else
    return 1;
#endif
}

/* A pattern on arrays of n floats that begin with a line. Returns what a read adds up to. */
int64_t stream(struct team *team, enum pattern pattern, size_t n, float *a, const float *b, const float *c)
{
    int64_t sum = 0;
    for (int i = 0; i < team->threads; i++) {
        size_t from = n / LINE * i / team->threads * LINE, to = n / LINE * (i + 1) / team->threads * LINE;
        team->parts[i] = (struct part){pattern, to - from, a + from, b + from, c + from, 0, team};
    }
    pthread_barrier_wait(&team->begin);
    stream_part(&team->parts[0]);
    pthread_barrier_wait(&team->end);
    for (int i = 0; i < team->threads; i++)
        sum += team->parts[i].sum;
    return sum;
}
