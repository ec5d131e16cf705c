// Products of spectra where a group is too small for a matrix product: one thread an element of the result.
//
// Operands that the mathematics conjugates are stored so. Matrices are stored as [frequency][row][column]: x
// (tiles x C of all groups), y (tiles x K of all groups) and w (K of all groups x C of one).
#include "cuda_fft_complex.cuh"

constexpr int TERMS = 256; // of a long sum that are added up by themselves, for the sake of its accuracy

struct Sizes {
    int frequencies, groups, tiles, c, k;
};

// This thread's frequency and element of a result of so many elements a frequency.
struct Spot {
    long long frequency;
    int element;
};

__device__ __forceinline__ Spot spot(int elements) {
    const long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    return {at / elements, int(at % elements)};
}

__device__ __forceinline__ void store(Complex &result, Complex value, int add) {
    result = add ? result + value : value;
}

// y = scale x w, or that is added to y, as in the others.
extern "C" __global__ void correlate(const Complex *x, const Complex *w, Complex *y, Sizes n, Real scale,
                                     int add) {
    const int columns = n.groups * n.k;
    const auto [frequency, at] = spot(n.tiles * columns);
    if (frequency >= n.frequencies)
        return;
    const int tile = at / columns, k = at % columns, group = k / n.k;
    x += (frequency * n.tiles + tile) * n.groups * n.c + group * n.c;
    w += (frequency * columns + k) * n.c;
    Complex sum = {0, 0};
    for (int c = 0; c < n.c; ++c)
        sum = sum + x[c] * w[c];
    store(y[frequency * n.tiles * columns + at], scale * sum, add);
}

// x = scale y w: the way back to the image.
extern "C" __global__ void convolve(Complex *x, const Complex *w, const Complex *y, Sizes n, Real scale,
                                    int add) {
    const int columns = n.groups * n.c;
    const auto [frequency, at] = spot(n.tiles * columns);
    if (frequency >= n.frequencies)
        return;
    const int tile = at / columns, c = at % columns, group = c / n.c;
    y += (frequency * n.tiles + tile) * n.groups * n.k + group * n.k;
    w += (frequency * n.groups + group) * n.k * n.c + c % n.c;
    Complex sum = {0, 0};
    for (int k = 0; k < n.k; ++k)
        sum = sum + y[k] * w[k * n.c];
    store(x[frequency * n.tiles * columns + at], scale * sum, add);
}

// w = scale y x, summed over the tiles.
extern "C" __global__ void collect(const Complex *x, Complex *w, const Complex *y, Sizes n, Real scale,
                                   int add) {
    const int rows = n.groups * n.k;
    const auto [frequency, at] = spot(rows * n.c);
    if (frequency >= n.frequencies)
        return;
    const int k = at / n.c, c = k / n.k * n.c + at % n.c;
    x += frequency * n.tiles * n.groups * n.c + c;
    y += frequency * n.tiles * rows + k;
    Complex total = {0, 0};
    for (int first = 0; first < n.tiles; first += TERMS) {
        Complex sum = {0, 0};
        for (long long tile = first; tile < min(first + TERMS, n.tiles); ++tile)
            sum = sum + y[tile * rows] * x[tile * n.groups * n.c];
        total = total + sum;
    }
    store(w[frequency * rows * n.c + at], scale * total, add);
}
