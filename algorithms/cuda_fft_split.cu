// Complex matrix products of fp32 on tensor cores, one a frequency: c = scale a b.
//
// Each number is scaled and split into two halves of fp16, a high and a low one; three products of halves
// stand for one of fp32, and four real products for a complex one: low times low is left out. The scale of
// a factor is the power of two that the largest number met so far in a block's rows (columns) allows; when
// a larger one comes, what was summed is scaled down.
//
// A factor is stored with its terms along rows or, if WIDE, along columns: a as [row][term] or [term][row],
// b as [column][term] or [term][column]; so a complex product in any order reads them as they are.
//
// Mapping    A block of four warps computes SIDE x SIDE results of one frequency, a warp 16 rows of them, by
//            wgmma or by mma. A step takes DEPTH terms; while tensor cores are at one, threads fetch the next.
// Shared     Two stages. Parts of numbers are planes: high and low of real, high and low of imaginary parts.
//            A row of 128 bytes holds DEPTH terms of all four or, if WIDE, SIDE numbers of one; it is
//            swizzled. Neither the stores nor ldmatrix meet a bank twice.
#define ELEMENT float
#include "cuda_fft_complex.cuh"
#include "cuda_implicit_tensor.cuh"

constexpr int SIDE = 64, DEPTH = 16, WARPS = 4, THREADS = 32 * WARPS;
constexpr int PLANES = 4, KEPT = SIDE * DEPTH / 2 / THREADS; // pairs of numbers in registers
constexpr int ROW = 128, PLANE = DEPTH * ROW, FACTOR_BYTES = PLANES * PLANE, STAGE_BYTES = 2 * FACTOR_BYTES;
constexpr int SUMS = SIDE * SIDE / THREADS;
constexpr int RESIDENT = HOPPER ? 4 : 2; // blocks on a multiprocessor, as registers allow

// Numbers from one stored row, and from one matrix, to the next.
struct Stored {
    int row;
    long long matrix;
};

struct Sizes {
    int rows, columns, terms;
    Stored a, b, c;
};

struct alignas(16) Pair {
    Complex at[2];
};

__device__ __forceinline__ int swizzle(int chunk, int row) { return (chunk ^ row & 7) << 4; }

// One factor of a block: its next step in registers, the last one in shared memory.
template <bool WIDE> struct Factor {
    static constexpr int PAIRS = (WIDE ? SIDE : DEPTH) / 2,
                         SPREAD = THREADS / PAIRS; // in a stored row; rows apart
    const Complex *from;
    int stored, left, terms, pair, row;
    Pair kept[KEPT];
    int shift = 126; // log2 of the scale

    // From its first row (column) on; `left` of them are there. Threads that store at once have rows
    // two apart, whose chunks no swizzle brings together.
    __device__ __forceinline__ Factor(const Complex *first, int stored, int left, int terms)
        : stored(stored), left(left), terms(terms), pair(threadIdx.x % PAIRS), row(threadIdx.x / PAIRS) {
        if (!WIDE)
            row = row % 4 * 2 + row / 4 % 2 + row / 8 * 8;
        from = first + row * (long long)stored + 2 * pair;
    }

    // The next DEPTH terms, zeros where there are none.
    __device__ __forceinline__ void load() {
#pragma unroll
        for (int i = 0; i < KEPT; ++i) {
            const int across = row + i * SPREAD, along = 2 * pair;
            const bool there = WIDE ? across < terms && along < left : across < left && along < terms;
            kept[i] = there ? *(const Pair *)(from + i * SPREAD * (long long)stored) : Pair{};
        }
        from += WIDE ? DEPTH * (long long)stored : DEPTH;
        terms -= DEPTH;
    }

    __device__ __forceinline__ unsigned largest() const {
        float most = 0;
#pragma unroll
        for (int i = 0; i < KEPT; ++i)
#pragma unroll
            for (int j = 0; j < 2; ++j)
                most = fmaxf(fmaxf(most, fabsf(kept[i].at[j].x)), fabsf(kept[i].at[j].y));
        return __reduce_max_sync(0xffffffff, __float_as_uint(most));
    }

    // Makes room for the largest number that the block sees; by how many powers of two.
    __device__ __forceinline__ int lower(unsigned seen) {
        const int before = shift;
        shift = min(shift, exponent(seen, 0));
        return before - shift;
    }

    __device__ __forceinline__ void store(char *planes, int i, int plane, float first, float second) const {
        const int at = row + i * SPREAD;
        const __half2 high = __floats2half2_rn(first, second);
        const float2 rounded = __half22float2(high);
        put_half(planes, at, plane, high);
        put_half(planes, at, plane + 1, __floats2half2_rn(first - rounded.x, second - rounded.y));
    }

    __device__ __forceinline__ void put_half(char *planes, int at, int plane, __half2 value) const {
        const int chunk = WIDE ? pair / 4 : 2 * plane + pair / 4;
        *(__half2 *)(planes + (WIDE ? plane * PLANE : 0) + at * ROW + swizzle(chunk, at) + pair % 4 * 4) =
            value;
    }

    __device__ __forceinline__ void split(char *planes) const {
        const float scale = two_to(shift);
#pragma unroll
        for (int i = 0; i < KEPT; ++i) {
            const Complex p = scale * kept[i].at[0], q = scale * kept[i].at[1];
            store(planes, i, 0, p.x, q.x);
            store(planes, i, 2, p.y, q.y);
        }
    }

    // Of a plane, 16 rows (columns) from `first` on as mma wants them: `outer` and `inner` are the
    // halves of 8 rows and of 8 terms that this lane gives the address of.
    __device__ __forceinline__ static void fetch(unsigned (&to)[4], unsigned planes, int plane, int first,
                                                 int outer, int inner) {
        const int r = threadIdx.x % 8;
        if (WIDE)
            load_matrices<true>(to, planes + plane * PLANE + (inner * 8 + r) * ROW +
                                        swizzle(first / 8 + outer, r));
        else
            load_matrices<false>(to, planes + (first + outer * 8 + r) * ROW + swizzle(2 * plane + inner, r));
    }

    // A plane as wgmma is told of it.
    __device__ __forceinline__ static unsigned long long matrix(unsigned planes, int plane) {
        return describe(planes + plane * (WIDE ? PLANE : 2 * DEPTH), 8 * ROW, 8 * ROW);
    }
};

// The sums of a thread: rows 8 apart, two columns of every eight.
struct Sums {
    float re[SUMS], im[SUMS];

    __device__ __forceinline__ void times(float scale) {
#pragma unroll
        for (int i = 0; i < SUMS; ++i) {
            re[i] *= scale;
            im[i] *= scale;
        }
    }
};

// ---- products of a step, the small ones first -------------------------------------------------------------

#if HOPPER && defined(__CUDA_ARCH_FEAT_SM90_ALL)

// d += a b, or d -= a b: SIDE x SIDE results over DEPTH terms.
template <bool MINUS>
__device__ __forceinline__ void add(float (&d)[SUMS], unsigned long long a, unsigned long long b) {
#ifdef __CUDA_EMULATOR__
    const emulator::Described left(a, A_WIDE), right(b, B_WIDE);
    emulator::Rows rows = emulator::rows_of<false>(left);
    if (MINUS)
        rows = {{-rows.of[0], -rows.of[1]}};
    emulator::multiply<2 * SUMS, false>(d, rows, right, 1);
#else
    ASM("{\n.reg .pred add;\nsetp.eq.u32 add, 0, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" NAMES32
        "}, %32, %33, add, %34, 1, %35, %36;\n}" : AT32(0) : "l"(a),
        "l"(b), "n"(MINUS ? -1 : 1), "n"(A_WIDE), "n"(B_WIDE));
#endif
}

template <class A, class B>
__device__ __forceinline__ void multiply_step(Sums &sums, unsigned a, unsigned b) {
    const auto im = [&](int p, int q) { add<false>(sums.im, A::matrix(a, p), B::matrix(b, q)); };
    const auto re = [&](int p, int q) { add<false>(sums.re, A::matrix(a, p), B::matrix(b, q)); };
    const auto minus = [&](int p, int q) { add<true>(sums.re, A::matrix(a, p), B::matrix(b, q)); };
    begin_wgmma();
    im(1, 2), re(1, 0), im(0, 3), re(0, 1), im(3, 0), minus(3, 2), im(2, 1), minus(2, 3);
    im(0, 2), re(0, 0), im(2, 0), minus(2, 2);
    commit_wgmma();
}

__device__ __forceinline__ void finish_step(Sums &sums) {
    wait_for_wgmma<0>();
    settle(sums.re);
    settle(sums.im);
}

#else

using Half = unsigned[4];

// d += a b of numbers in halves for 16 columns.
__device__ __forceinline__ void add(float *d, const Half *a, const Half *b) {
#pragma unroll
    for (int half = 0; half < 3; ++half)
#pragma unroll
        for (int n = 0; n < 2; ++n)
            mma<false>(d + 4 * n, a[half == 0], b[half == 1][2 * n], b[half == 1][2 * n + 1]);
}

template <class A, class B>
__device__ __forceinline__ void multiply_step(Sums &sums, unsigned a, unsigned b) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, low = lane / 8 % 2, high = lane / 16;
    Half left[PLANES], minus[2], right[PLANES];
#pragma unroll
    for (int plane = 0; plane < PLANES; ++plane)
        A::fetch(left[plane], a, plane, 16 * warp, low, high);
#pragma unroll
    for (int i = 0; i < 8; ++i)
        minus[i / 4][i % 4] = left[2 + i / 4][i % 4] ^ 0x80008000;
#pragma unroll
    for (int n = 0; n < SIDE; n += 16) {
#pragma unroll
        for (int plane = 0; plane < PLANES; ++plane)
            B::fetch(right[plane], b, plane, n, high, low);
        add(sums.im + n / 2, left, right + 2);
        add(sums.im + n / 2, left + 2, right);
        add(sums.re + n / 2, left, right);
        add(sums.re + n / 2, minus, right + 2);
    }
}

__device__ __forceinline__ void finish_step(Sums &) {}

#endif

// Results of this thread from c's first number on, of which so many rows and columns are there.
__device__ __forceinline__ void write(Complex *c, int stored, int rows, int columns, const Sums &sums,
                                      const float (&scales)[3], int keep) {
#pragma unroll
    for (int i = 0; i < SUMS; i += 2) {
        const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i / 2 % 2 * 8;
        const int column = i / 4 * 8 + threadIdx.x % 4 * 2;
        if (row >= rows || column >= columns)
            continue;
        Pair *to = (Pair *)(c + row * (long long)stored + column), pair;
#pragma unroll
        for (int j = 0; j < 2; ++j) {
            const Complex sum = {sums.re[i + j], sums.im[i + j]};
            pair.at[j] = scales[2] * (scales[1] * (scales[0] * sum));
        }
        if (keep)
            pair = {{to->at[0] + pair.at[0], to->at[1] + pair.at[1]}};
        *to = pair;
    }
}

// The largest numbers of both factors that the block has seen in this step.
template <class A, class B>
__device__ __forceinline__ void publish(unsigned (&peaks)[2][WARPS], const A &a, const B &b) {
    const unsigned most[2] = {a.largest(), b.largest()};
    if (threadIdx.x % 32 == 0) {
        peaks[0][threadIdx.x / 32] = most[0];
        peaks[1][threadIdx.x / 32] = most[1];
    }
}

__device__ __forceinline__ unsigned largest(const unsigned (&peaks)[WARPS]) {
    unsigned most = 0;
#pragma unroll
    for (int i = 0; i < WARPS; ++i)
        most = max(most, peaks[i]);
    return most;
}

// Blocks of one frequency follow one another, so that they find its factors in the L2 cache. With `keep`
// the product is added to what c holds.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    multiply(const Complex *a, const Complex *b, Complex *c, Sizes n, float scale, int keep) {
    extern __shared__ uint4 dynamic[];
    __shared__ unsigned peaks[2][WARPS];
    const int across = (n.columns + SIDE - 1) / SIDE, down = (n.rows + SIDE - 1) / SIDE;
    const int column = blockIdx.x % across * SIDE, row = blockIdx.x / across % down * SIDE;
    const long long frequency = blockIdx.x / (across * down);
    a += frequency * n.a.matrix + row * (long long)(A_WIDE ? 1 : n.a.row);
    b += frequency * n.b.matrix + column * (long long)(B_WIDE ? 1 : n.b.row);
    c += frequency * n.c.matrix + row * (long long)n.c.row + column;

    using Left = Factor<A_WIDE>;
    using Right = Factor<B_WIDE>;
    char *const stages = (char *)dynamic + (1024 - shared_address(dynamic) % 1024) % 1024;
    Left left(a, n.a.row, n.rows - row, n.terms);
    Right right(b, n.b.row, n.columns - column, n.terms);
    const auto bring_in = [&](char *stage) {
        publish(peaks, left, right);
        __syncthreads();
        const int change = left.lower(largest(peaks[0])) + right.lower(largest(peaks[1]));
        left.split(stage);
        right.split(stage + FACTOR_BYTES);
        show_copies();
        return change;
    };
    left.load();
    right.load();
    bring_in(stages);
    __syncthreads();
    Sums sums = {};
    for (int step = 0; step < n.terms; step += DEPTH) {
        const bool more = step + DEPTH < n.terms;
        const int stage = step / DEPTH % 2 * STAGE_BYTES;
        const unsigned planes = shared_address(stages) + stage;
        if (more) {
            left.load();
            right.load();
        }
        multiply_step<Left, Right>(sums, planes, planes + FACTOR_BYTES);
        const int change = more ? bring_in(stages + (STAGE_BYTES - stage)) : 0;
        finish_step(sums);
        if (change)
            sums.times(two_to(max(-change, -127)));
        __syncthreads();
    }
    const float scales[3] = {two_to(-left.shift), two_to(-right.shift), scale};
    write(c, n.c.row, n.rows - row, n.columns - column, sums, scales, keep);
}
