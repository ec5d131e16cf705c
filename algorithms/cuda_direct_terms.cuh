// The operands of a gather: which terms its reduction has, where they lie, and how they get to shared memory.
#pragma once

#include "cuda_direct_place.cuh"

// Where a (channel, tap) pair lies relative to a pixel, and in a filter. MASKS: `row` has the bits of its row
// and column of taps.
struct alignas(16) Tap {
    int offset, row, col, weight;
};

// One pixel as the taps see it: its corner in `in`, and where that is; MASKS: `h` has the bits of all rows
// and columns of taps that do not meet it.
struct Corner {
    const Scalar *at;
    int h, v;

    __device__ __forceinline__ bool meets(const Tap &tap, int high, int wide) const {
        return MASKS ? !(h & tap.row)
                     : unsigned(h + tap.row) < unsigned(high) && unsigned(v + tap.col) < unsigned(wide);
    }
    __device__ __forceinline__ void forget() { h = MASKS ? -1 : -2 * NOWHERE; }
};

// The order of the reduction, and the table of its terms: it repeats after `repeat` channels and is read up
// to DEPTH beyond; the last step has a copy of its own, from `last` on, in which what is beyond the reduction
// meets nothing. BY_CHANNEL it holds the taps alone.
struct Order {
    int count, repeat, period, steps, last;

    __device__ __forceinline__ Order(const Shape &s, const Place &place) {
        const int reduced = BACKWARD ? s.k : s.c;
        count = uniform(place.rows.taps * place.cols.taps);
        repeat = BY_CHANNEL ? 1 : uniform(s.packed ? reduced : (DEPTH + count - 1) / max(1, count));
        period = count * repeat;
        steps = BY_CHANNEL ? (reduced + DEPTH - 1) / DEPTH * count : (count * reduced + DEPTH - 1) / DEPTH;
        last = BY_CHANNEL ? period : period + DEPTH;
    }

    __device__ __forceinline__ int entries() const { return last + (BY_CHANNEL ? 0 : DEPTH); }

    __device__ __forceinline__ Tap tap(int e, const Shape &s, const Place &place) const {
        const int reduced = BACKWARD ? s.k : s.c, before = (steps - 1) * DEPTH;  // the last step
        const int entry = e < last ? e : e - last + before % period;
        const int tap = s.packed ? entry / reduced : entry % count;
        const int channel = s.packed ? entry % reduced : entry / count;
        const int i = tap / place.cols.taps, j = tap % place.cols.taps;
        const int row = i * place.rows.dilation, col = j * place.cols.dilation;
        const int stored_row = place.rows.tap + i * place.rows.tap_step;
        const int stored = stored_row * s.cols.taps + place.cols.tap + j * place.cols.tap_step;
        const Steps from(s.groups * reduced, place.rows.size * place.cols.size);
        if (e >= last && e - last + before >= count * reduced)
            return {0, MASKS ? 1 << 31 : NOWHERE, 0, 0};
        return {(row * place.cols.size + col) * from.pixel + channel * from.channel,
                MASKS ? 1 << i | 1 << (place.rows.taps + j) : row, col,
                stored * (NHWC ? s.c : 1) + channel * s.term_step};
    }
};

// The bits of taps that do not meet a pixel, for MASKS; bit 31 belongs to what meets nothing.
__device__ __forceinline__ int missed(const Place &place, int h, int v) {
    int bits = 1 << 31;
    for (int i = 0; i < place.rows.taps; ++i)
        bits |= (unsigned(h + i * place.rows.dilation) >= unsigned(place.rows.size)) << i;
    for (int j = 0; j < place.cols.taps; ++j)
        bits |= (unsigned(v + j * place.cols.dilation) >= unsigned(place.cols.size)) << (place.rows.taps + j);
    return bits;
}

// Brings the operands of one step after the other to shared memory. A thread moves TERMS terms from kb on of
// PIXELS pixels, and T::A filters.
template <class T>
struct Loader {
    static constexpr bool ASYNC = sizeof(Scalar) >= 4 && !BY_CHANNEL, DOWN = NHWC && BACKWARD;
    static constexpr int PIXELS = T::N > T::SIZE ? T::N / T::SIZE : 1,
                         SHARE = T::N < T::SIZE ? T::SIZE / T::N : 1;
    static constexpr int TERMS = DEPTH / SHARE;
    static constexpr int SIDE = !BY_CHANNEL ? 1 : sizeof(Scalar) == 8 || TERMS == 2 ? 2 : 4;
    static constexpr int KA = DOWN ? DEPTH / T::WARPS : 1, MA = T::A / KA;  // terms and filters of a thread
    // Where pixels can be copied in fours: a thread moves one of a few terms.
    // (The others are short of registers.)
    static constexpr bool FOURS = !NHWC && sizeof(Scalar) == 4 && PIXELS == 1 && T::ROWS * T::COLS != 96;
    static constexpr int ACROSS = T::N / 4, TERMS_AT_ONCE = T::SIZE / ACROSS;
    static constexpr int DOWN_FOURS = T::M / 4, FILTERS_AT_ONCE = T::SIZE / DOWN_FOURS;
    static constexpr bool FILTERS = FOURS && BACKWARD && DEPTH % FILTERS_AT_ONCE == 0 &&
                                    T::SIZE % DOWN_FOURS == 0;
    static constexpr int K_STEP = T::WARPS, M_STEP = DOWN ? 32 : T::SIZE / DEPTH;

    const Tap *taps;
    const Shape &s;
    Corner corner[PIXELS];
    const Scalar *f;
    int high, wide, mine, kb, ka, ma, rows_left;
    int t, left;           // position in the table; channels left
    int next, end, steps;  // step to load, end of the part, all steps
    int count, period, last, x_step, f_step;
    Scalar a[T::A];
    Side<SIDE> b[PIXELS][TERMS / SIDE];

    __device__ __forceinline__ Loader(const Scalar *in, const Scalar *w, const Shape &s, const Place &place,
                                      const Order &order, const Tap *taps, int begin, int end)
        : taps(taps),
          s(s),
          next(begin),
          end(end),
          steps(order.steps),
          count(order.count),
          period(order.period),
          last(order.last) {
        const int thread = threadIdx.x, reduced = BACKWARD ? s.k : s.c;
        const Steps from(s.groups * reduced, place.rows.size * place.cols.size);
        high = place.rows.size, wide = place.cols.size;
        mine = BY_CHANNEL ? thread / SHARE : thread % T::N;
        kb = (BY_CHANNEL ? thread % SHARE : thread / T::N) * TERMS;
        if (FOURS && s.fours & 1) {
            mine = thread % ACROSS * 4;
            kb = thread / ACROSS;
        }
        ka = DOWN ? thread / 32 : thread % DEPTH;
        ma = DOWN ? thread % 32 : thread / DEPTH;
        if (FILTERS && s.fours & 2) {
            ma = thread % DOWN_FOURS * 4;
            ka = thread / DOWN_FOURS;
        }
        rows_left = (BACKWARD ? s.c : s.k) - place.m0 - ma;
        x_step = BY_CHANNEL ? DEPTH : order.repeat * from.channel;
        f_step = (BY_CHANNEL ? DEPTH : order.repeat) * s.term_step;
        const int lap = BY_CHANNEL ? count : period, at = BY_CHANNEL ? begin : begin * DEPTH;
        const int laps = begin ? at / lap : 0;  // (no step, no lap)
        t = !BY_CHANNEL && begin == steps - 1 ? last : at - laps * lap;
        left = reduced - laps * DEPTH;
#pragma unroll
        for (int q = 0; q < PIXELS; ++q) {
            const int index = mine + q * T::SIZE;
            const Pixel p = place.pixel(s, index);
            const int h = p.row * place.rows.step + place.rows.start,
                      v = p.col * place.cols.step + place.cols.start;
            const Scalar *x = in + p.n * from.image + (long long)place.group * reduced * from.channel;
            x += ((long long)h * wide + v) * from.pixel + (BY_CHANNEL ? kb : 0) + (long long)laps * x_step;
            corner[q] = {x, MASKS ? missed(place, h, v) : h, v};
            if (!place.holds(p, index))
                corner[q].forget();
        }
        f = w + (long long)place.group * s.k * s.c * s.filter + (long long)(place.m0 + ma) * s.row_step;
        f += (BY_CHANNEL ? ka * s.term_step : 0) + (long long)laps * f_step;
        if (begin >= end)
            forget();
    }

    // What is still brought meets nothing; its terms are read where the table surely has some.
    __device__ __forceinline__ void forget() {
        rows_left = t = 0;
#pragma unroll
        for (int q = 0; q < PIXELS; ++q)
            corner[q].forget();
    }

    // Begin to bring the next step; after the end, nothing.
    __device__ __forceinline__ void load(Stage<T> &stage) {
        if constexpr (BY_CHANNEL) {
            const Tap tap = taps[t];
#pragma unroll
            for (int q = 0; q < PIXELS; ++q)
#pragma unroll
                for (int j = 0; j < TERMS; j += SIDE) {
                    b[q][j / SIDE] = {};
                    if (corner[q].meets(tap, high, wide) && kb + j < left)
                        b[q][j / SIDE] = *reinterpret_cast<const Side<SIDE> *>(corner[q].at + tap.offset + j);
                }
        } else if (FOURS && s.fours & 1) {
            load_fours(stage);
        } else {
            Tap tap[TERMS];  // all read before the first copy: one that follows a read has to wait
#pragma unroll
            for (int j = 0; j < TERMS; ++j)
                tap[j] = taps[t + kb + j];
#pragma unroll
            for (int j = 0; j < TERMS; ++j)
#pragma unroll
                for (int q = 0; q < PIXELS; ++q)
                    bring<ASYNC>(stage.b[kb + j][mine + q * T::SIZE], b[q][j].at[0],
                                 corner[q].at + tap[j].offset, corner[q].meets(tap[j], high, wide));
        }
        if (FILTERS && s.fours & 2)
            load_filters(stage);
        else
            load_each_filter(stage);
        advance();
    }

    __device__ __forceinline__ void load_filters(Stage<T> &stage) {
        if constexpr (FILTERS) {
#pragma unroll
            for (int k = 0; k < DEPTH; k += FILTERS_AT_ONCE)
                copy_four(&stage.a[ka + k][ma], f + taps[t + ka + k].weight, rows_left > 0);
        }
    }

    __device__ __forceinline__ void load_each_filter(Stage<T> &stage) {
#pragma unroll
        for (int k = 0; k < KA; ++k) {
            const Scalar *filters = f + (BY_CHANNEL ? taps[t].weight + (long long)k * K_STEP * s.term_step
                                                    : taps[t + ka + k * K_STEP].weight);
            const bool real = !BY_CHANNEL || ka + k * K_STEP < left;
#pragma unroll
            for (int i = 0; i < MA; ++i, filters += (long long)M_STEP * s.row_step)
                bring<ASYNC>(stage.a[ka + k * K_STEP][ma + i * M_STEP], a[k * MA + i], filters,
                             real && i * M_STEP < rows_left);
        }
    }

    __device__ __forceinline__ void load_fours(Stage<T> &stage) {
        if constexpr (FOURS) {
            Tap tap[DEPTH / TERMS_AT_ONCE];
#pragma unroll
            for (int j = 0; j < DEPTH / TERMS_AT_ONCE; ++j)
                tap[j] = taps[t + kb + j * TERMS_AT_ONCE];
#pragma unroll
            for (int j = 0; j < DEPTH / TERMS_AT_ONCE; ++j)
                copy_four(&stage.b[kb + j * TERMS_AT_ONCE][mine], corner[0].at + tap[j].offset,
                          corner[0].meets(tap[j], high, wide));
        }
    }

    __device__ __forceinline__ void advance() {
        t += BY_CHANNEL ? 1 : DEPTH;
        if (t >= (BY_CHANNEL ? count : period)) {
            t -= BY_CHANNEL ? count : period;
            left -= DEPTH;
            f += f_step;
#pragma unroll
            for (int q = 0; q < PIXELS; ++q)
                corner[q].at += x_step;
        }
        ++next;
        if (!BY_CHANNEL && next == steps - 1)
            t = last;
        if (next >= end)
            forget();
    }

    // What was loaded has its place in shared memory.
    __device__ __forceinline__ void store(Stage<T> &stage) {
        if constexpr (ASYNC) {
            copied();
        } else {
#pragma unroll
            for (int i = 0; i < T::A; ++i)
                stage.a[ka + i / MA * K_STEP][ma + i % MA * M_STEP] = widen(a[i]);
#pragma unroll
            for (int q = 0; q < PIXELS; ++q)
#pragma unroll
                for (int j = 0; j < TERMS; ++j)
                    stage.b[kb + j][mine + q * T::SIZE] = widen(b[q][j / SIDE].get(j % SIDE));
        }
    }
};
