/* QMIX's mixing network (src/modules/mixers/qmix.py) over whole batches and back; part of network.c.
 *
 * The layers that read the state are one matrix, by columns [value E | w_1 H | w_2 H | b_1 E], their sums are F wide.
 * w_1 [H, N E] and w_2 [H, E] are the hypernetworks' second layers, `value` [E] that of V(s). E, H, N E and so F are
 * multiples of LANES. */

typedef struct { whole inputs, agents, embed, hyper; } Mixing;

static whole mixing_width(Mixing m) { return 2 * m.embed + 2 * m.hyper; }

INLINE float across(vec x)
{
    float total = 0.0f;
    for (int lane = 0; lane < LANES; lane++)
        total += x[lane];
    return total;
}

INLINE vec absolute(vec x) { return (vec)((ivec)x & 0x7fffffff); }

/* x with the sign of s, 0 where s is */
INLINE vec signed_as(vec x, vec s)
{
    return choose(s > 0.0f, x, choose(s < 0.0f, -x, s * x));
}

INLINE vec elu(vec x) { return choose(x > 0.0f, x, exponential(x) - 1.0f); }

/* qs [rows, N] and state [rows, I] to out [rows]. sums [rows, F], drawn [rows, (N + 1) E] (w_1 and w_2 before their
 * absolute values), hidden [rows, E]: kept for mixing_backward; NULL where nothing is to be differentiated. */
int mixing_forward(
    whole rows, whole inputs, whole agents, whole embed, whole hyper, const float *qs, const float *state,
    const float *weight, const float *bias, const float *value, const float *value_bias, const float *w1, const float *b1,
    const float *w2, const float *b2, float *sums, float *drawn, float *hidden, float *out)
{
    const Mixing m = {inputs, agents, embed, hyper};
    const whole wide = mixing_width(m), ne = agents * embed;
    Scratch s = {0};
    float *of_state = NULL, *one = NULL, *two = NULL, *inner = NULL;
    for (int pass = 0; pass < 2; pass++) {
        of_state = take(&s, BLOCK * wide), one = take(&s, BLOCK * ne), two = take(&s, BLOCK * embed);
        inner = take(&s, embed);
        if (!pass && !ready(&s))
            return 1;
    }
    for (whole row = 0; row < rows; row += BLOCK) {
        const whole n = at_most(BLOCK, rows - row);
        if (sums)
            of_state = sums + row * wide, one = drawn + row * ne, two = drawn + rows * ne + row * embed;
        affine(n, inputs, wide, state + row * inputs, weight, bias, of_state);
        for (whole i = 0; i < n; i++)
            activate(RELU, wide - embed, of_state + i * wide, of_state + i * wide);
        product(n, ne, hyper, of_state + embed, wide, 1, w1, ne, b1, one, ne);
        product(n, embed, hyper, of_state + embed + hyper, wide, 1, w2, embed, b2, two, embed);
        for (whole i = 0; i < n; i++) {
            const float *x = of_state + i * wide, *q = qs + (row + i) * agents;
            float *h = hidden ? hidden + (row + i) * embed : inner;
            vec total = {0};
            for (whole e = 0; e < embed; e += LANES) {
                vec sum = LOOK(x + wide - embed + e);
                for (whole k = 0; k < agents; k++)
                    sum = fused(all(q[k]), absolute(LOOK(one + i * ne + k * embed + e)), sum);
                AT(h + e) = elu(sum);
                total = fused(LOOK(h + e), absolute(LOOK(two + i * embed + e)), total);
                total = fused(LOOK(x + e), LOOK(value + e), total);
            }
            out[row + i] = across(total) + *value_bias;
        }
    }
    free(s.base);
    return 0;
}

/* grad [rows] of out to dqs [rows, N] and to the parameters' gradients, which are added to; turned1 [N E, H] and turned2
 * [E, H] are w_1 and w_2 transposed; the rest as mixing_forward left it. */
int mixing_backward(
    whole rows, whole inputs, whole agents, whole embed, whole hyper, const float *qs, const float *state,
    const float *value, const float *turned1, const float *turned2, const float *sums, const float *drawn,
    const float *hidden, const float *grad, float *dqs, float *dweight, float *dbias, float *dvalue, float *dvalue_bias,
    float *dw1, float *db1, float *dw2, float *db2)
{
    const Mixing m = {inputs, agents, embed, hyper};
    const whole wide = mixing_width(m), ne = agents * embed;
    Scratch s = {0};
    float *dsums = NULL, *done = NULL, *dtwo = NULL, *zeros = NULL;
    for (int pass = 0; pass < 2; pass++) {
        dsums = take(&s, BLOCK * wide), done = take(&s, BLOCK * ne), dtwo = take(&s, BLOCK * embed);
        zeros = take(&s, hyper);
        if (!pass && !ready(&s))
            return 1;
    }
    memset(zeros, 0, hyper * sizeof(float));
    for (whole row = 0; row < rows; row += BLOCK) {
        const whole n = at_most(BLOCK, rows - row);
        const float *x = sums + row * wide;
        for (whole i = 0; i < n; i++) {
            const float *q = qs + (row + i) * agents, *one = drawn + (row + i) * ne;
            const float *two = drawn + rows * ne + (row + i) * embed, *h = hidden + (row + i) * embed;
            float *dx = dsums + i * wide, *dq = dqs + (row + i) * agents;
            const vec g = all(grad[row + i]);
            for (whole k = 0; k < agents; k++)
                dq[k] = 0.0f;
            for (whole e = 0; e < embed; e += LANES) {
                const vec back = LOOK(h + e), slope_of = choose(back > 0.0f, all(1.0f), back + 1.0f);
                const vec inner = g * absolute(LOOK(two + e)) * slope_of;
                AT(dtwo + i * embed + e) = signed_as(g * back, LOOK(two + e));
                AT(dx + wide - embed + e) = inner;
                AT(dx + e) = g * LOOK(value + e);
                AT(dvalue + e) = fused(g, LOOK(x + i * wide + e), LOOK(dvalue + e));
                for (whole k = 0; k < agents; k++) {
                    const vec w = LOOK(one + k * embed + e);
                    AT(done + i * ne + k * embed + e) = signed_as(all(q[k]) * inner, w);
                    dq[k] += across(inner * absolute(w));
                }
            }
            *dvalue_bias += grad[row + i];
        }
        product(hyper, ne, n, x + embed, 1, wide, done, ne, NULL, dw1, ne);
        add_rows(n, ne, done, db1);
        product(hyper, embed, n, x + embed + hyper, 1, wide, dtwo, embed, NULL, dw2, embed);
        add_rows(n, embed, dtwo, db2);
        product(n, hyper, ne, done, ne, 1, turned1, hyper, zeros, dsums + embed, wide);
        product(n, hyper, embed, dtwo, embed, 1, turned2, hyper, zeros, dsums + embed + hyper, wide);
        for (whole i = 0; i < n; i++)
            slope(RELU, wide - embed, x + i * wide, dsums + i * wide);
        product(inputs, wide, n, state + row * inputs, 1, inputs, dsums, wide, NULL, dweight, wide);
        add_rows(n, wide, dsums, dbias);
    }
    free(s.base);
    return 0;
}
