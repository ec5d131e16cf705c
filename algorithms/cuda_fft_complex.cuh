// Complex numbers, and the matrices that spectra are stored in.
#pragma once
#include "gpu.cuh"

using Element = ELEMENT; // of the tensors
using Real = Sum<Element>::type;

struct alignas(2 * sizeof(Real)) Complex {
    Real x, y;
};

__device__ constexpr Complex operator+(Complex a, Complex b) { return {a.x + b.x, a.y + b.y}; }
__device__ constexpr Complex operator-(Complex a, Complex b) { return {a.x - b.x, a.y - b.y}; }
__device__ constexpr Complex operator*(Complex a, Complex b) {
    return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x};
}
__device__ constexpr Complex operator*(Real a, Complex b) { return {a * b.x, a * b.y}; }
__device__ constexpr Complex conj(Complex a) { return {a.x, -a.y}; }
__device__ constexpr Complex times_i(Complex a) { return {-a.y, a.x}; }
__device__ constexpr Complex minus_i(Complex a) { return {a.y, -a.x}; }

// One matrix a frequency; lane = row * columns + column. Strides in complex numbers. Imaginary parts are
// stored times `sign`: -1 for the conjugate.
//
// A real product of twice the size does a complex one if every row w of one factor is followed, `twin`
// later, by its twin i w: as real numbers, x . w and x . i w are the parts of x conj(w), and two numbers
// times both rows those of their complex product with w. Where both factors are plain, the result has twin
// rows: u = re(a) b and v = im(a) b, so that conj(a) b = u - i v. Where there are no twins, `twin` is 0.
//
// Spectra in fp16 are scaled by a power of two.
struct Matrix {
    long long row, twin;
    int frequency, columns, sign;
    int bits, other_bits; // log2 of the largest spectrum of numbers up to 1: of this tensor, and of the other
};

__device__ __forceinline__ long long offset(const Matrix &matrix, int lane) {
    return lane / matrix.columns * matrix.row + lane % matrix.columns;
}

// A number's place at a frequency; one multiplication and addition in bytes. Lanes that are APART have
// frequencies side by side.
template <class T> __device__ __forceinline__ T *plane(T *at, const Matrix &matrix, int frequency) {
#if APART
    return at + frequency;
#else
    return (T *)((char *)at + frequency * int(sizeof(T)) * (long long)matrix.frequency);
#endif
}

// ---- numbers as they are stored ---------------------------------------------------------------------------

// Where a lane's numbers go. `twins` says that there is a twin row for certain.
struct Single {
    static constexpr bool twins = false;
    Complex *at;
    __device__ Single(Complex *to) : at(to) {}
    __device__ __forceinline__ void store(const Matrix &matrix, int frequency, long long twin,
                                          Complex value) const {
        plane(at, matrix, frequency)[twin] = value;
    }
};

template <bool TWIN, class Target>
__device__ __forceinline__ void put(const Target &to, const Matrix &matrix, int frequency, Complex value) {
    value.y *= Real(matrix.sign);
    to.store(matrix, frequency, 0, value);
    if (TWIN && (Target::twins || matrix.twin))
        to.store(matrix, frequency, matrix.twin, times_i(value));
}

template <bool TWIN>
__device__ __forceinline__ Complex get(const Complex *from, const Matrix &matrix, int frequency) {
    from = plane(from, matrix, frequency);
    return TWIN && matrix.twin ? *from + minus_i(from[matrix.twin]) : *from;
}

// The power of two that brings numbers below 2^bits * peak into fp16, to 2^15 at most; its inverse is no
// subnormal.
__device__ __forceinline__ int exponent(unsigned peak, int bits) {
    return min(max(15 - bits - (int(peak >> 23) - 126), -126), 126);
}
__device__ __forceinline__ float two_to(int exponent) { return __int_as_float(exponent + 127 << 23); }
__device__ __forceinline__ float power(unsigned peak, int bits) { return two_to(exponent(peak, bits)); }
