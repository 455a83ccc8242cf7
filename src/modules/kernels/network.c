/* Networks of src/modules/agents/rnn.py over whole batches and back, compiled when first used for the processor at hand.
 *
 * The rows go through all layers in blocks that stay in the second-level cache, and a product's sums stay in registers
 * while they are added up. A row's numbers do not depend on which other rows are there; what is added up over rows is
 * added up in the order of the rows.
 *
 * Matrices are row-major; a network's parameters are one vector, its layers one after the other:
 *     feed-forward: fc1.w [I, H], fc1.b, norm1, fc2.w [H, H], fc2.b, norm2, head.w [H, A], head.b
 *     recurrent:    fc1.w [I, H], fc1.b, norm1, w_ih [3H, H], w_hh [3H, H], b_ih, b_hh, head.w [H, A], head.b
 * norm1 and norm2 are the scale and shift [2, H] of layer normalisation, there where `norm` says so.
 * H is a multiple of network_lanes(). Functions return 0, 1 where there is no memory for their scratch, 2 where rows are
 * not laid out as they say.
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#define PANEL 4 /* vectors of columns in a tile of a product: with its rows, 24 sums of 32 registers */
#define GATE_ROWS 8 /* of a tile of a GRU's step, three vectors wide */
#elif defined(__AVX__)
#define LANES 8
#define PANEL 2
#define GATE_ROWS 4
#else
#define LANES 4
#define PANEL 2
#define GATE_ROWS 4
#endif
#define ROWS 6     /* of a tile of a product */
#define GATES 3    /* of a GRU: reset, update, candidate */
#define BLOCK 192  /* rows that go through the layers together */

typedef ptrdiff_t whole;
typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define AT(p) (*(vec *)(p))
#define LOOK(p) (*(const vec *)(p))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))

/* The number of rows in a tile is a constant in each copy of its code: that keeps the sums in registers. */
#define CASE(m, TILE) case m: TILE(m); break;
#define UP_TO_4(TILE) CASE(1, TILE) CASE(2, TILE) CASE(3, TILE) default: TILE(4);
#define UP_TO_6(TILE) CASE(1, TILE) CASE(2, TILE) CASE(3, TILE) CASE(4, TILE) CASE(5, TILE) default: TILE(6);
#define UP_TO_8(TILE) \
    CASE(1, TILE) CASE(2, TILE) CASE(3, TILE) CASE(4, TILE) CASE(5, TILE) CASE(6, TILE) CASE(7, TILE) default: TILE(8);
#define JOIN(a, b) a##b
#define UP_TO(n) JOIN(UP_TO_, n)

whole network_lanes(void) { return LANES; }

static whole at_most(whole a, whole b) { return a < b ? a : b; }

static whole padded(whole n) { return (n + LANES - 1) / LANES * LANES; }

/* -- element by element --------------------------------------------------------------------------------------- */

/* a b + c. By name: left to itself, a compiler fuses them in one copy of a loop and not in the other, and the last digits
 * of a row would depend on how many rows share its tile. */
INLINE vec fused(vec a, vec b, vec c)
{
#if LANES == 16
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX__) && defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__aarch64__)
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

INLINE vec all(float x) { return x - (vec){0}; }

INLINE vec choose(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* e^x to about 1e-7 of its size (Cephes' polynomial); NaN stays NaN */
INLINE vec exponential(vec x)
{
    x = choose(x > 88.0f, all(88.0f), x);
    x = choose(x < -87.0f, all(-87.0f), x);
    const vec shifted = fused(x, all(1.44269504088896341f), all(12582912.0f)); /* its lowest bits: the nearest whole power of 2 */
    const vec power = shifted - 12582912.0f;
    const vec r = fused(power, all(2.12194440e-4f), fused(power, all(-0.693359375f), x));
    vec p = fused(r, all(1.9875691500e-4f), all(1.3981999507e-3f));
    p = fused(p, r, all(8.3334519073e-3f));
    p = fused(p, r, all(4.1665795894e-2f));
    p = fused(p, r, all(1.6666665459e-1f));
    p = fused(p, r, all(5.0000001201e-1f));
    p = fused(p * r, r, r) + 1.0f;
    return (vec)((ivec)p + ((ivec)shifted << 23));
}

INLINE vec sigmoid(vec x) { return 1.0f / (1.0f + exponential(-x)); }

/* Where x is small the quotient would lose its digits. */
INLINE vec tangent(vec x)
{
    const vec s = x * x;
    vec p = fused(s, all(-5.70498872745e-3f), all(2.06390887954e-2f)); /* Cephes' tanhf, |x| < 0.625 */
    p = fused(p, s, all(-5.37397155531e-2f));
    p = fused(p, s, all(1.33314422036e-1f));
    p = fused(p, s, all(-3.33332819422e-1f));
    const vec large = 1.0f - 2.0f / (1.0f + exponential(x + x));
    return choose(s < 0.390625f, fused(p * s, x, x), large);
}

enum { RELU, TANH };

APART void activate(whole kind, whole count, const float *x, float *y)
{
    if (kind == RELU)
        for (whole i = 0; i < count; i += LANES)
            AT(y + i) = choose(LOOK(x + i) < 0.0f, (vec){0}, LOOK(x + i)); /* NaN stays NaN */
    else
        for (whole i = 0; i < count; i += LANES)
            AT(y + i) = tangent(LOOK(x + i));
}

/* dy *= the activation's slope where it gave y */
APART void slope(whole kind, whole count, const float *y, float *dy)
{
    if (kind == RELU)
        for (whole i = 0; i < count; i += LANES)
            AT(dy + i) = choose(LOOK(y + i) > 0.0f, LOOK(dy + i), (vec){0});
    else
        for (whole i = 0; i < count; i += LANES)
            AT(dy + i) *= fused(-LOOK(y + i), LOOK(y + i), all(1.0f));
}

/* sums[columns] += x[rows, columns], row by row */
static void add_rows(whole rows, whole columns, const float *x, float *sums)
{
    for (whole c = 0; c < columns; c += LANES) {
        vec sum = LOOK(sums + c);
        for (whole i = 0; i < rows; i++)
            sum += LOOK(x + i * columns + c);
        AT(sums + c) = sum;
    }
}

/* -- layer normalisation ---------------------------------------------------------------------------------------- */

#define EPS 1e-5f

INLINE float total(vec x)
{
    float sum = 0.0f;
    for (int lane = 0; lane < LANES; lane++)
        sum += x[lane];
    return sum;
}

/* Layer normalisation (Ba et al. 2016) of rows x [rows, H], in place: hat = (x - mean) / sqrt(variance + EPS), and
 * x = hat scale + shift. hat [rows, H] and the inverse deviations [rows] are kept for normalise_back; NULL: not. */
APART void normalise(whole rows, whole size, const float *norm, float *x, float *hat, float *inverse)
{
    for (whole row = 0; row < rows; row++, x += size) {
        vec sum = {0}, squares = {0};
        for (whole i = 0; i < size; i += LANES)
            sum += LOOK(x + i);
        const float mean = total(sum) / (float)size;
        for (whole i = 0; i < size; i += LANES) {
            const vec centred = LOOK(x + i) - mean;
            squares = fused(centred, centred, squares);
        }
        const float by = 1.0f / sqrtf(total(squares) / (float)size + EPS);
        for (whole i = 0; i < size; i += LANES) {
            const vec one = (LOOK(x + i) - mean) * by;
            if (hat)
                AT(hat + row * size + i) = one;
            AT(x + i) = fused(one, LOOK(norm + i), LOOK(norm + size + i));
        }
        if (inverse)
            inverse[row] = by;
    }
}

/* dy [rows, H] of what normalise gave becomes dx of what it got; dnorm [2, H] is added to. */
APART void normalise_back(
    whole rows, whole size, const float *norm, const float *hat, const float *inverse, float *dy, float *dnorm)
{
    for (whole row = 0; row < rows; row++, dy += size, hat += size) {
        vec sum = {0}, along = {0};
        for (whole i = 0; i < size; i += LANES) {
            const vec d = LOOK(dy + i), one = LOOK(hat + i), inside = d * LOOK(norm + i);
            AT(dnorm + i) = fused(d, one, LOOK(dnorm + i));
            AT(dnorm + size + i) += d;
            sum += inside;
            along = fused(inside, one, along);
        }
        const float mean = total(sum) / (float)size, slope_of = total(along) / (float)size;
        for (whole i = 0; i < size; i += LANES) {
            const vec inside = LOOK(dy + i) * LOOK(norm + i) - mean;
            AT(dy + i) = fused(LOOK(hat + i), all(-slope_of), inside) * inverse[row];
        }
    }
}

/* to[columns, width >= rows] = from[rows, columns] transposed */
static void transpose(whole rows, whole columns, const float *from, float *to, whole width)
{
    for (whole i = 0; i < rows; i += LANES)
        for (whole k = 0; k < columns; k++)
            for (whole lane = i; lane < at_most(i + LANES, rows); lane++)
                to[k * width + lane] = from[lane * columns + k];
}

/* to[rows, wide] = from[rows, narrow], zeros beyond it */
static void widen(whole rows, whole narrow, whole wide, const float *from, float *to)
{
    for (whole i = 0; i < rows; i++) {
        memcpy(to + i * wide, from + i * narrow, narrow * sizeof(float));
        memset(to + i * wide + narrow, 0, (wide - narrow) * sizeof(float));
    }
}

/* -- products --------------------------------------------------------------------------------------------------- */

/* A tile of c = start + a b: the number of a for row i and depth k is a[i * a_row + k * a_depth]. start: one row for
 * all, or NULL: what c holds. */
INLINE void tile(
    const int rows, const int vectors, whole depth, const float *a, whole a_row, whole a_depth, const float *b,
    whole b_row, const float *start, float *c, whole c_row)
{
    vec sum[ROWS][PANEL];
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i][v] = LOOK((start ? start : c + i * c_row) + v * LANES);
    for (whole k = 0; k < depth; k++) {
        vec w[PANEL];
        UNROLL
        for (int v = 0; v < vectors; v++)
            w[v] = LOOK(b + k * b_row + v * LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            const vec one = all(a[i * a_row + k * a_depth]);
            UNROLL
            for (int v = 0; v < vectors; v++)
                sum[i][v] = fused(w[v], one, sum[i][v]);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int v = 0; v < vectors; v++)
            AT(c + i * c_row + v * LANES) = sum[i][v];
}

INLINE void panel(
    const int vectors, whole rows, whole depth, const float *a, whole a_row, whole a_depth, const float *b, whole b_row,
    const float *start, float *c, whole c_row)
{
    for (whole row = 0; row < rows; row += ROWS) {
        #define TILE(m) tile(m, vectors, depth, a + row * a_row, a_row, a_depth, b, b_row, start, c + row * c_row, c_row)
        switch (rows - row) { UP_TO(ROWS)(TILE) }
        #undef TILE
    }
}

/* c[rows, columns] = start + a[rows, depth] b[depth, columns]; columns: a multiple of LANES. See `tile`. */
static void product(
    whole rows, whole columns, whole depth, const float *a, whole a_row, whole a_depth, const float *b, whole b_row,
    const float *start, float *c, whole c_row)
{
    whole v = 0;
    for (; v + PANEL * LANES <= columns; v += PANEL * LANES)
        panel(PANEL, rows, depth, a, a_row, a_depth, b + v, b_row, start ? start + v : NULL, c + v, c_row);
    for (; v < columns; v += LANES)
        panel(1, rows, depth, a, a_row, a_depth, b + v, b_row, start ? start + v : NULL, c + v, c_row);
}

/* -- layers ------------------------------------------------------------------------------------------------------ */

/* y[rows, out] = x[rows, in] w[in, out] + bias */
static void affine(
    whole rows, whole in, whole out, const float *x, const float *w, const float *bias, float *y)
{
    product(rows, out, in, x, in, 1, w, out, bias, y, out);
}

/* dw[in, out] += x^T dy, dbias += dy */
static void affine_weights(whole rows, whole in, whole out, const float *x, const float *dy, float *dw, float *dbias)
{
    product(in, out, rows, x, 1, in, dy, out, NULL, dw, out);
    add_rows(rows, out, dy, dbias);
}

/* A network's head, its outputs widened to whole vectors. */
typedef struct {
    whole in, out, wide;
    float *w, *turned, *bias, *dw, *dbias, *rows; /* [in, wide], [out, in], [wide], ..., [BLOCK, wide] */
} Head;

/* -- scratch ----------------------------------------------------------------------------------------------------- */

typedef struct { char *base; size_t used, size; } Scratch;

/* Twice: first with base NULL, which only counts. */
static float *take(Scratch *s, whole count)
{
    float *here = (float *)(s->base + s->used);
    s->used += ((size_t)count * sizeof(float) + 63) & ~(size_t)63;
    return s->base ? here : NULL;
}

static int ready(Scratch *s)
{
    s->size = s->used + 64, s->used = 0;
    return (s->base = aligned_alloc(64, s->size)) != NULL;
}

static void head_take(Scratch *s, Head *h, whole in, whole out, int back)
{
    h->in = in, h->out = out, h->wide = padded(out);
    h->w = take(s, in * h->wide), h->bias = take(s, h->wide), h->rows = take(s, BLOCK * h->wide);
    if (back)
        h->turned = take(s, out * in), h->dw = take(s, in * h->wide), h->dbias = take(s, h->wide);
}

static void head_forward(const Head *h, whole rows, const float *x, float *out)
{
    affine(rows, h->in, h->wide, x, h->w, h->bias, h->rows);
    for (whole i = 0; i < rows; i++)
        memcpy(out + i * h->out, h->rows + i * h->wide, h->out * sizeof(float));
}

static void head_load(const Head *h, const float *w, const float *bias, int back)
{
    widen(h->in, h->out, h->wide, w, h->w);
    widen(1, h->out, h->wide, bias, h->bias);
    if (back) {
        transpose(h->in, h->out, w, h->turned, h->in);
        memset(h->dw, 0, h->in * h->wide * sizeof(float));
        memset(h->dbias, 0, h->wide * sizeof(float));
    }
}

/* From the outputs' gradient [rows, out] to dx, adding to the head's own. */
static void head_backward(const Head *h, whole rows, const float *x, const float *grad, const float *zeros, float *dx)
{
    widen(rows, h->out, h->wide, grad, h->rows);
    affine_weights(rows, h->in, h->wide, x, h->rows, h->dw, h->dbias);
    product(rows, h->in, h->out, h->rows, h->wide, 1, h->turned, h->in, zeros, dx, h->in);
}

static void head_store(const Head *h, float *dw, float *dbias)
{
    for (whole i = 0; i < h->in; i++)
        for (whole k = 0; k < h->out; k++)
            dw[i * h->out + k] += h->dw[i * h->wide + k];
    for (whole k = 0; k < h->out; k++)
        dbias[k] += h->dbias[k];
}

/* -- feed-forward ------------------------------------------------------------------------------------------------ */

/* The parameters, copied where loads of whole vectors would cross cache lines. */
static const float *lined_up(const float *params, whole count, float *copy)
{
    return (uintptr_t)params % 64 ? memcpy(copy, params, count * sizeof(float)) : params;
}

/* x [rows, I] (or, in its place, the first layer's sums [rows, H]) to out [rows, A]. first, second [rows, H]: what the
 * hidden layers give, kept for mlp_backward; NULL where nothing is to be differentiated. hats [2, rows, H] and inverses
 * [2, rows]: what normalise keeps of either layer; NULL without layer normalisation too. */
int mlp_forward(
    whole rows, whole inputs, whole size, whole outputs, whole kind, whole norm, const float *params, const float *x,
    const float *sums, float *first, float *second, float *hats, float *inverses, float *out)
{
    Scratch s = {0};
    Head head;
    float *one = NULL, *two = NULL, *copy = NULL;
    const whole scales = norm ? 2 * size : 0;
    const whole body = inputs * size + size + scales + size * size + size + scales;
    for (int pass = 0; pass < 2; pass++) {
        head_take(&s, &head, size, outputs, 0);
        one = take(&s, BLOCK * size), two = take(&s, BLOCK * size), copy = take(&s, body);
        if (!pass && !ready(&s))
            return 1;
    }
    head_load(&head, params + body, params + body + size * outputs, 0);
    params = lined_up(params, body, copy);
    const float *b1 = params + inputs * size, *w2 = b1 + size + scales, *b2 = w2 + size * size;
    for (whole row = 0; row < rows; row += BLOCK) {
        const whole n = at_most(BLOCK, rows - row);
        if (first)
            one = first + row * size, two = second + row * size;
        if (x)
            affine(n, inputs, size, x + row * inputs, params, b1, one);
        else if (norm)
            memcpy(one, sums + row * size, n * size * sizeof(float));
        if (norm)
            normalise(n, size, b1 + size, one, hats ? hats + row * size : NULL, inverses ? inverses + row : NULL);
        activate(kind, n * size, x || norm ? one : sums + row * size, one);
        affine(n, size, size, one, w2, b2, two);
        if (norm)
            normalise(
                n, size, b2 + size, two, hats ? hats + (rows + row) * size : NULL,
                inverses ? inverses + rows + row : NULL);
        activate(kind, n * size, two, two);
        head_forward(&head, n, two, out + row * outputs);
    }
    free(s.base);
    return 0;
}

/* grad [rows, A] of the outputs to dparams (added to) and, where x is NULL, to dsums [rows, H] of the first layer's
 * sums; the rest as mlp_forward left it. frozen: what is added to dparams is not asked for, and mostly left out. */
int mlp_backward(
    whole rows, whole inputs, whole size, whole outputs, whole kind, whole norm, whole frozen, const float *params,
    const float *x,
    const float *first, const float *second, const float *hats, const float *inverses, const float *grad,
    float *dparams, float *dsums)
{
    Scratch s = {0};
    Head head;
    float *done = NULL, *dtwo = NULL, *turned = NULL, *zeros = NULL;
    for (int pass = 0; pass < 2; pass++) {
        head_take(&s, &head, size, outputs, 1);
        done = take(&s, BLOCK * size), dtwo = take(&s, BLOCK * size), turned = take(&s, size * size);
        zeros = take(&s, size);
        if (!pass && !ready(&s))
            return 1;
    }
    const whole scales = norm ? 2 * size : 0, second_w = inputs * size + size + scales;
    const whole body = second_w + size * size + size + scales;
    float *db1 = dparams + inputs * size, *dw2 = dparams + second_w, *db2 = dw2 + size * size;
    const float *norm1 = params + inputs * size + size, *norm2 = params + body - scales;
    head_load(&head, params + body, params + body + size * outputs, 1);
    transpose(size, size, params + second_w, turned, size);
    memset(zeros, 0, size * sizeof(float));
    for (whole row = 0; row < rows; row += BLOCK) {
        const whole n = at_most(BLOCK, rows - row);
        const float *one = first + row * size, *two = second + row * size;
        float *back = dsums ? dsums + row * size : done;
        head_backward(&head, n, two, grad + row * outputs, zeros, dtwo);
        slope(kind, n * size, two, dtwo);
        if (norm)
            normalise_back(n, size, norm2, hats + (rows + row) * size, inverses + rows + row, dtwo, db2 + size);
        if (!frozen)
            affine_weights(n, size, size, one, dtwo, dw2, db2);
        product(n, size, size, dtwo, size, 1, turned, size, zeros, back, size);
        slope(kind, n * size, one, back);
        if (norm)
            normalise_back(n, size, norm1, hats + row * size, inverses + row, back, db1 + size);
        if (x)
            affine_weights(n, inputs, size, x + row * inputs, back, dparams, db1);
    }
    head_store(&head, dparams + body, dparams + body + size * outputs);
    free(s.base);
    return 0;
}

#include "mixing.h"

/* -- recurrent ---------------------------------------------------------------------------------------------------- */

/* w_hh [3H, H] to [H / LANES, H, 3, LANES]: the order in which steps read it */
static void by_unit(const float *weight, whole size, float *packed)
{
    for (whole unit = 0; unit < size; unit += LANES)
        for (int gate = 0; gate < GATES; gate++)
            for (int lane = 0; lane < LANES; lane++) {
                const float *from = weight + (gate * size + unit + lane) * size;
                float *to = packed + unit * size * GATES + gate * LANES + lane;
                for (whole k = 0; k < size; k++)
                    to[k * GATES * LANES] = from[k];
            }
}

/* From a tile's sums to its states. Apart: its constants would take the registers that the sums need. */
APART void finish_gates(
    whole rows, whole size, vec sum[][GATES], const float *x, const float *before, float *gates, float *candidates,
    float *after)
{
    for (whole i = 0; i < rows; i++) {
        const float *xi = x + i * GATES * size;
        const vec r = sigmoid(sum[i][0] + LOOK(xi)), z = sigmoid(sum[i][1] + LOOK(xi + size));
        const vec n = tangent(fused(r, sum[i][2], LOOK(xi + 2 * size)));
        AT(after + i * size) = fused(z, LOOK(before + i * size) - n, n);
        if (gates) {
            float *gi = gates + i * GATES * size;
            AT(gi) = r, AT(gi + size) = z, AT(gi + 2 * size) = sum[i][2];
            AT(candidates + i * size) = n;
        }
    }
}

/* LANES units, from `unit` on, of some rows for one step. */
INLINE void gate_tile(
    const int rows, whole size, whole unit, const float *packed, const float *bias, const float *x, const float *before,
    float *gates, float *candidates, float *after)
{
    vec sum[GATE_ROWS][GATES], kept[GATE_ROWS][GATES];
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int g = 0; g < GATES; g++)
            sum[i][g] = LOOK(bias + g * size + unit);
    for (whole k = 0; k < size; k++) {
        const float *w = packed + k * GATES * LANES;
        const vec w0 = LOOK(w), w1 = LOOK(w + LANES), w2 = LOOK(w + 2 * LANES);
        UNROLL
        for (int i = 0; i < rows; i++) {
            const vec one = all(before[i * size + k]);
            sum[i][0] = fused(w0, one, sum[i][0]);
            sum[i][1] = fused(w1, one, sum[i][1]);
            sum[i][2] = fused(w2, one, sum[i][2]);
        }
    }
    UNROLL
    for (int i = 0; i < rows; i++)
        UNROLL
        for (int g = 0; g < GATES; g++)
            kept[i][g] = sum[i][g];
    finish_gates(
        rows, size, kept, x + unit, before + unit, gates ? gates + unit : NULL, gates ? candidates + unit : NULL,
        after + unit);
}

/* One step of a GRU: x [R, 3H] projected, before [R, H], to after [R, H]; gates [R, 3H] and candidates [R, H], or
 * NULL. */
static void gru_step(
    whole rows, whole size, const float *packed, const float *bias, const float *x, const float *before, float *gates,
    float *candidates, float *after)
{
    for (whole unit = 0; unit < size; unit += LANES)
        for (whole row = 0; row < rows; row += GATE_ROWS) {
            const whole wide = row * GATES * size, narrow = row * size;
            #define TILE(m) gate_tile( \
                m, size, unit, packed + unit * GATES * size, bias, x + wide, before + narrow, \
                gates ? gates + wide : NULL, gates ? candidates + narrow : NULL, after + narrow)
            switch (rows - row) { UP_TO(GATE_ROWS)(TILE) }
            #undef TILE
        }
}

/* One step back, but for the product: carry [R, H], of the state after it, becomes the part of the state before it that
 * passes the update gate. dgate [R, 3H]: of what is added up inside each gate, the hidden state's part; dn [R, H]: of
 * what is inside tanh. */
static void gru_step_back(
    whole rows, whole size, const float *grad, const float *gates, const float *candidates, const float *before,
    float *dgate, float *dn, float *carry)
{
    for (whole row = 0; row < rows; row++)
        for (whole unit = 0; unit < size; unit += LANES) {
            const whole wide = row * GATES * size + unit, narrow = row * size + unit;
            const vec r = LOOK(gates + wide), z = LOOK(gates + wide + size), from_hidden = LOOK(gates + wide + 2 * size);
            const vec n = LOOK(candidates + narrow), dh = LOOK(grad + narrow) + LOOK(carry + narrow);
            const vec inside = dh * (1.0f - z) * fused(-n, n, all(1.0f));
            AT(dn + narrow) = inside;
            AT(dgate + wide) = inside * from_hidden * r * (1.0f - r);
            AT(dgate + wide + size) = dh * (LOOK(before + narrow) - n) * z * (1.0f - z);
            AT(dgate + wide + 2 * size) = inside * r;
            AT(carry + narrow) = dh * z;
        }
}

/* Packed sequences: the rows of step 0, then those of step 1, ...; row r of each step belongs to the r-th longest
 * sequence, so that the state before it is row r of the step before. counts [T]: the rows of each step, R at first and
 * never more than the step before has; S in all. A block ends where it is full, within a step or not. */
typedef struct { whole index, begin, end; } Step; /* its rows are begin to end - 1 of the S */

/* The number of rows of a step that are among rows from to up to - 1, the first of which is *begin. */
static whole shared(Step step, whole from, whole up_to, whole *begin)
{
    *begin = step.begin < from ? from : step.begin;
    return at_most(step.end, up_to) - *begin;
}

/* Whether the counts are those of a packing of so many rows and sequences. */
static int laid_out(whole steps, const int64_t *counts, whole rows, whole sequences)
{
    whole sum = 0;
    for (whole t = 0; t < steps; t++) {
        if (counts[t] < 1 || counts[t] > (t ? counts[t - 1] : sequences))
            return 0;
        sum += counts[t];
    }
    return steps > 0 && counts[0] == sequences && sum == rows;
}

/* x [S, I] and hidden [R, H] (before the first step) to out [S, A]. first [S, H], gates [S, 3H], candidates and states
 * [S, H] are kept for gru_backward; all NULL where nothing is to be differentiated, hats [S, H] and inverses [S] (what
 * normalise keeps) without layer normalisation too. rows: S; sequences: R. */
int gru_forward(
    whole steps, whole rows, whole sequences, whole inputs, whole size, whole outputs, whole kind, whole norm,
    const int64_t *counts, const float *params, const float *x, const float *hidden, float *first, float *hats,
    float *inverses, float *gates, float *candidates, float *states, float *out)
{
    if (!laid_out(steps, counts, rows, sequences))
        return 2;
    const whole wide = GATES * size, scales = norm ? 2 * size : 0;
    const whole body = inputs * size + size + scales + 2 * wide * size + 2 * wide;
    Scratch s = {0};
    Head head;
    float *one = NULL, *projected = NULL, *packed = NULL, *turned = NULL, *after = NULL, *current = NULL;
    for (int pass = 0; pass < 2; pass++) {
        head_take(&s, &head, size, outputs, 0);
        one = take(&s, BLOCK * size), projected = take(&s, BLOCK * wide), after = take(&s, BLOCK * size);
        packed = take(&s, wide * size), turned = take(&s, wide * size), current = take(&s, sequences * size);
        if (!pass && !ready(&s))
            return 1;
    }
    const float *b1 = params + inputs * size, *w_ih = b1 + size + scales, *w_hh = w_ih + wide * size, *b_ih = w_hh + wide * size;
    head_load(&head, params + body, params + body + size * outputs, 0);
    by_unit(w_hh, size, packed);
    transpose(wide, size, w_ih, turned, wide);
    memcpy(current, hidden, sequences * size * sizeof(float));
    Step step = {0, 0, counts[0]};
    for (whole row = 0; row < rows; row += BLOCK) {
        const whole n = at_most(BLOCK, rows - row);
        if (first)
            one = first + row * size, after = states + row * size;
        affine(n, inputs, size, x + row * inputs, params, b1, one);
        if (norm)
            normalise(n, size, b1 + size, one, hats ? hats + row * size : NULL, inverses ? inverses + row : NULL);
        activate(kind, n * size, one, one);
        affine(n, size, wide, one, turned, b_ih, projected);
        for (;;) {
            whole begin;
            const whole count = shared(step, row, row + n, &begin), at = begin - row;
            float *before = current + (begin - step.begin) * size;
            gru_step(
                count, size, packed, b_ih + wide, projected + at * wide, before, gates ? gates + begin * wide : NULL,
                gates ? candidates + begin * size : NULL, after + at * size);
            memcpy(before, after + at * size, count * size * sizeof(float));
            if (step.end > row + n || step.end == rows)
                break;
            step = (Step){step.index + 1, step.end, step.end + counts[step.index + 1]};
            if (step.begin == row + n)
                break;
        }
        head_forward(&head, n, after, out + row * outputs);
    }
    free(s.base);
    return 0;
}

/* grad [S, A] of the outputs to dparams (added to) and carry [R, H] of the hidden state before the first step (zeros at
 * first); the rest as gru_forward left it. */
int gru_backward(
    whole steps, whole rows, whole inputs, whole size, whole outputs, whole kind, whole norm, const int64_t *counts,
    const float *params, const float *x, const float *hidden, const float *first, const float *hats,
    const float *inverses, const float *gates, const float *candidates, const float *states, const float *grad,
    float *dparams, float *carry)
{
    const whole wide = GATES * size, scales = norm ? 2 * size : 0, after_first = inputs * size + size + scales;
    const whole body = after_first + 2 * wide * size + 2 * wide;
    const float *norm1 = params + inputs * size + size;
    Scratch s = {0};
    Head head;
    float *dstate = NULL, *dgate = NULL, *dn = NULL, *done = NULL, *before = NULL, *zeros = NULL, *copy = NULL;
    for (int pass = 0; pass < 2; pass++) {
        head_take(&s, &head, size, outputs, 1);
        dstate = take(&s, BLOCK * size), dgate = take(&s, BLOCK * wide), dn = take(&s, BLOCK * size);
        done = take(&s, BLOCK * size), before = take(&s, BLOCK * size), zeros = take(&s, size);
        copy = take(&s, 2 * wide * size);
        if (!pass && !ready(&s))
            return 1;
    }
    const float *w_ih = lined_up(params + after_first, 2 * wide * size, copy), *w_hh = w_ih + wide * size;
    float *db1 = dparams + inputs * size, *dw_ih = dparams + after_first, *dw_hh = dw_ih + wide * size;
    float *db_ih = dw_hh + wide * size, *db_hh = db_ih + wide;
    head_load(&head, params + body, params + body + size * outputs, 1);
    memset(zeros, 0, size * sizeof(float));
    Step step = {steps - 1, rows - counts[steps - 1], rows};
    for (whole row = (rows - 1) / BLOCK * BLOCK; row >= 0; row -= BLOCK) {
        const whole n = at_most(BLOCK, rows - row);
        head_backward(&head, n, states + row * size, grad + row * outputs, zeros, dstate);
        for (;;) {
            whole begin;
            const whole count = shared(step, row, row + n, &begin), at = begin - row, r = begin - step.begin;
            const float *from = step.index ? states + (step.begin - counts[step.index - 1]) * size : hidden;
            from += r * size;
            memcpy(before + at * size, from, count * size * sizeof(float));
            gru_step_back(
                count, size, dstate + at * size, gates + begin * wide, candidates + begin * size, from,
                dgate + at * wide, dn + at * size, carry + r * size);
            product(count, size, wide, dgate + at * wide, wide, 1, w_hh, size, NULL, carry + r * size, size);
            if (step.begin < row || !step.index)
                break;
            step = (Step){step.index - 1, step.begin - counts[step.index - 1], step.begin};
            if (step.end == row)
                break;
        }
        product(wide, size, n, dgate, 1, wide, before, size, NULL, dw_hh, size);
        add_rows(n, wide, dgate, db_hh);
        for (whole i = 0; i < n; i++) /* the input's part of the candidate does not pass the reset gate */
            memcpy(dgate + i * wide + 2 * size, dn + i * size, size * sizeof(float));
        product(wide, size, n, dgate, 1, wide, first + row * size, size, NULL, dw_ih, size);
        add_rows(n, wide, dgate, db_ih);
        product(n, size, wide, dgate, wide, 1, w_ih, size, zeros, done, size);
        slope(kind, n * size, first + row * size, done);
        if (norm)
            normalise_back(n, size, norm1, hats + row * size, inverses + row, done, db1 + size);
        affine_weights(n, inputs, size, x + row * inputs, done, dparams, db1);
    }
    head_store(&head, dparams + body, dparams + body + size * outputs);
    free(s.base);
    return 0;
}
