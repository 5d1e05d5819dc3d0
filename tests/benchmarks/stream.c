/* STREAM's read, copy and triad in plain C, for a comparison on the same arrays.
 *
 * After J. D. McCalpin's STREAM (www.cs.virginia.edu/stream/ref.html), in float and with one part of the arrays to a
 * thread. With plain stores a cache fetches a line in order to overwrite it; with streaming stores it does not.
 */

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

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

enum pattern { READ, COPY, TRIAD, STREAMING_COPY, STREAMING_TRIAD };

enum { LINE = 16, MOST_THREADS = 1024 }; /* floats in a line of the cache */

struct part {
    enum pattern pattern;
    int repeats;
    size_t n;
    float *a;
    const float *b, *c;
    int64_t sum;
    pthread_barrier_t *all;
};

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

static void *stream_part(void *argument)
{
    struct part *p = argument;
    for (int i = 0; i < p->repeats; i++) {
        switch (p->pattern) {
        case READ: p->sum += read_sum(p->n / 2, (const int64_t *)p->b); break;
        case COPY: copy(p->n, p->a, p->b); break;
        case TRIAD: triad(p->n, p->a, p->b, p->c); break;
        case STREAMING_COPY: streaming_copy(p->n, p->a, p->b); break;
        case STREAMING_TRIAD: streaming_triad(p->n, p->a, p->b, p->c); break;
        }
        pthread_barrier_wait(p->all);
    }
    return NULL;
}

int has_streaming_stores(void)
{
#ifdef NO_STREAMING_STORES
    return 0;
#else
    return 1;
#endif
}

/* A pattern, so many times over, on arrays of n floats that begin with a line. Returns what a read adds up to. */
int64_t stream(enum pattern pattern, int threads, int repeats, size_t n, float *a, const float *b, const float *c)
{
    static struct part parts[MOST_THREADS];
    pthread_t running[MOST_THREADS];
    pthread_barrier_t all;
    pthread_barrier_init(&all, NULL, threads);
    for (int i = 0; i < threads; i++) {
        size_t from = n / LINE * i / threads * LINE, to = n / LINE * (i + 1) / threads * LINE;
        parts[i] = (struct part){pattern, repeats, to - from, a + from, b + from, c + from, 0, &all};
        if (i > 0)
            pthread_create(&running[i], NULL, stream_part, &parts[i]);
    }
    stream_part(&parts[0]);
    int64_t sum = parts[0].sum;
    for (int i = 1; i < threads; i++) {
        pthread_join(running[i], NULL);
        sum += parts[i].sum;
    }
    pthread_barrier_destroy(&all);
    return sum;
}
