// Forward and backward-data convolution with few result channels a group, without workspace: a matrix product
// would waste its tile. Neighbouring results (stride 1 after phases, no dilation left) share their inputs.
//   A block has M channels of results; it brings DEEP channels of an input region with its halo, and their
//   filters, to shared memory. A thread has HIGH x WIDE pixels of M channels in registers and slides over the
//   input rows four columns at a time. The threads are `across` x `down` x `images` (powers of two).
#include "cuda_direct.cuh"

constexpr int DEEP = 4, HIGH = 2, WIDE = 4, MOST = 4;

struct Region {
    int across, down, images, col_tiles, row_tiles, image_tiles, channel_tiles;
};

// Four neighbours in shared memory.
__device__ __forceinline__ void four(Real *to, const Real *from) {
    constexpr int V = 16 / sizeof(Real);
#pragma unroll
    for (int i = 0; i < 4; i += V) {
        const Pack<Real, V> pack = load_pack<V>(from + i);
#pragma unroll
        for (int l = 0; l < V; ++l)
            to[i + l] = pack.at[l];
    }
}

template <bool BACKWARD, int M>
__device__ __forceinline__ void thin(const Scalar *in, const Scalar *w, Scalar *out, const Shape &s,
                                     const Region &g) {
    extern __shared__ int4 memory[];
    unsigned block = blockIdx.x;
    Walk rows, cols;
    walk<BACKWARD>(s, block, rows, cols);
    const int m0 = block % g.channel_tiles * MOST;
    block /= g.channel_tiles;
    const int col0 = block % g.col_tiles * g.across * WIDE;
    block /= g.col_tiles;
    const int row0 = block % g.row_tiles * g.down * HIGH;
    block /= g.row_tiles;
    const int n0 = block % g.image_tiles * g.images, group = block / g.image_tiles;
    const int reduced = BACKWARD ? s.k : s.c, outputs = BACKWARD ? s.c : s.k;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int height = g.down * HIGH + rows.taps - 1, width = g.across * WIDE + cols.taps - 1;
    const int pitch = 4 * (g.across + (cols.taps + 3) / 4), plane = height * pitch,
              taps = rows.taps * cols.taps;
    Real *filters = reinterpret_cast<Real *>(memory), *region = filters + DEEP * taps * MOST;
    const Steps from(s.groups * reduced, rows.size * cols.size);
    const Scalar *first = in + (long long)group * reduced * from.channel;
    const Scalar *weights = w + (long long)group * s.k * s.c * s.filter;
    const int x = thread % g.across, y = thread / g.across % g.down, z = thread / (g.across * g.down);

    Real total[HIGH][M][WIDE] = {};
    for (int c0 = 0; c0 < reduced; c0 += DEEP) {
        __syncthreads();
        for (int e = thread; e < DEEP * taps * MOST; e += THREADS) {
            const int m = e % MOST, tap = e / MOST % taps, c = e / MOST / taps;
            const int row = rows.tap + tap / cols.taps * rows.tap_step,
                      col = cols.tap + tap % cols.taps * cols.tap_step;
            const Scalar *at = weights + (long long)(c0 + c) * s.term_step + (m0 + m) * s.row_step;
            const bool real = m0 + m < outputs && c0 + c < reduced;
            filters[e] = widen(real ? at[(row * s.cols.taps + col) * (NHWC ? s.c : 1)] : Scalar(0));
        }
        // A warp brings one row: of one channel, or in NHWC of all DEEP.
        constexpr int BESIDE = NHWC ? DEEP : 1;
        for (int line = warp; line < DEEP / BESIDE * g.images * height; line += THREADS / 32) {
            const int image = line / height % g.images, i = line % height, h = row0 + rows.start + i;
            const bool inside = n0 + image < s.n && unsigned(h) < unsigned(rows.size);
            const Scalar *at = first + (n0 + image) * from.image + (long long)h * cols.size * from.pixel;
            for (int e = lane; e < width * BESIDE; e += 32) {
                const int c = NHWC ? e % DEEP : line / height / g.images, j = NHWC ? e / DEEP : e;
                const int v = col0 + cols.start + j;
                const bool real = inside && unsigned(v) < unsigned(cols.size) && c0 + c < reduced;
                const Scalar value =
                    real ? at[(c0 + c) * (long long)from.channel + v * from.pixel] : Scalar(0);
                region[(c * g.images + image) * plane + i * pitch + j] = widen(value);
            }
        }
        __syncthreads();
        Real sum[HIGH][M][WIDE] = {};
        for (int c = 0; c < DEEP && c0 + c < reduced; ++c)
            for (int r = 0; r < rows.taps; ++r) {
                const Real *line = region + (c * g.images + z) * plane + (y * HIGH + r) * pitch + x * WIDE;
                const Real *tap = filters + (c * taps + r * cols.taps) * MOST;
                Real window[HIGH][2 * WIDE];
#pragma unroll
                for (int i = 0; i < HIGH; ++i)
                    four(window[i], line + i * pitch);
#pragma unroll 1
                for (int l0 = 0; l0 < cols.taps; l0 += WIDE) {
#pragma unroll
                    for (int i = 0; i < HIGH; ++i)
                        four(window[i] + WIDE, line + i * pitch + l0 + WIDE);
#pragma unroll
                    for (int l = 0; l < WIDE; ++l) {
                        if (l0 + l >= cols.taps)
                            break;
                        Real weight[MOST];
                        four(weight, tap + (l0 + l) * MOST);
#pragma unroll
                        for (int i = 0; i < HIGH; ++i)
#pragma unroll
                            for (int m = 0; m < M; ++m)
#pragma unroll
                                for (int j = 0; j < WIDE; ++j)
                                    sum[i][m][j] += weight[m] * window[i][j + l];
                    }
#pragma unroll
                    for (int i = 0; i < HIGH; ++i)
#pragma unroll
                        for (int j = 0; j < WIDE; ++j)
                            window[i][j] = window[i][j + WIDE];
                }
            }
#pragma unroll
        for (int i = 0; i < HIGH; ++i)
#pragma unroll
            for (int m = 0; m < M; ++m)
#pragma unroll
                for (int j = 0; j < WIDE; ++j)
                    total[i][m][j] += sum[i][m][j];
    }

    const int out_wide = BACKWARD ? s.cols.x : s.cols.y;
    const Steps to(s.groups * outputs, (BACKWARD ? s.rows.x : s.rows.y) * out_wide);
    const int col = col0 + x * WIDE;
#pragma unroll
    for (int i = 0; i < HIGH; ++i) {
        const int row = row0 + y * HIGH + i;
        if (n0 + z >= s.n || row >= rows.count)
            continue;
        Scalar *line = out + (n0 + z) * to.image + (group * outputs + m0) * (long long)to.channel;
        line += ((long long)(rows.first + row * rows.every) * out_wide + cols.first) * to.pixel;
#pragma unroll
        for (int m = 0; m < M; ++m)
#pragma unroll
            for (int j = 0; j < WIDE; ++j)
                if (m0 + m < outputs && col + j < cols.count)
                    line[(col + j) * cols.every * (long long)to.pixel + m * to.channel] =
                        narrow<Scalar>(total[i][m][j]);
    }
}

#define ARGUMENTS \
    const Scalar *__restrict__ in, const Scalar *__restrict__ w, Scalar *out, const Shape s, const Region g

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) forward_1(ARGUMENTS) {
    thin<false, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) forward_2(ARGUMENTS) {
    thin<false, 2>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) forward_3(ARGUMENTS) {
    thin<false, 3>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) forward_4(ARGUMENTS) {
    thin<false, 4>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) backward_1(ARGUMENTS) {
    thin<true, 1>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) backward_2(ARGUMENTS) {
    thin<true, 2>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) backward_3(ARGUMENTS) {
    thin<true, 3>(in, w, out, s, g);
}
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT) backward_4(ARGUMENTS) {
    thin<true, 4>(in, w, out, s, g);
}
