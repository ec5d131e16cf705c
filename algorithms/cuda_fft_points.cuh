// Fourier transforms of a few points in the registers of one thread.
#pragma once

#include "cuda_fft_complex.cuh"

// x^first / first! - x^(first + 2) / (first + 2)! + ...: cos x from 0, sin x from 1.
__device__ constexpr double series(double x, int first) {
    double term = first ? x : 1, sum = 0;
    for (int n = first + 1; n < 28; n += 2) {
        sum += term;
        term *= -x * x / (n * (n + 1));
    }
    return sum;
}

// Twiddles e^(-2 pi i j / T) at compile time; each quarter turn is a multiplication by -i.
template <int T>
struct Turns {
    Complex at[T];
    __device__ constexpr Turns() : at() {
        for (int j = 0; j < T; ++j) {
            const double angle = 6.283185307179586476925287 * (j % (T / 4)) / T;
            Complex turn = {Real(series(angle, 0)), -Real(series(angle, 1))};
            for (int quarter = 0; quarter < j / (T / 4); ++quarter)
                turn = minus_i(turn);
            at[j] = turn;
        }
    }
};

__device__ constexpr Turns<TILE> turns;

// e^(-2 pi i j / TILE), or its conjugate.
template <bool INVERSE>
__device__ __forceinline__ Complex turn(int j) {
    return INVERSE ? conj(turns.at[j]) : turns.at[j];
}

// plus = a + w b, minus = a - w b for w = turn(j): six FMAs, as minus = 2 a - plus.
template <bool INVERSE>
__device__ __forceinline__ void butterfly(int j, Complex a, Complex b, Complex &plus, Complex &minus) {
    if (j == 0) {
        plus = a + b;
        minus = a - b;
    } else if (4 * j == TILE) {
        const Complex turned = INVERSE ? times_i(b) : minus_i(b);
        plus = a + turned;
        minus = a - turned;
    } else {
        const Complex w = turn<INVERSE>(j);
        plus = {(a.x + w.x * b.x) - w.y * b.y, (a.y + w.x * b.y) + w.y * b.x};
        minus = {2 * a.x - plus.x, 2 * a.y - plus.y};
    }
}

// Where element i stands when its bits are read backwards.
template <int N>
struct Reversal {
    int of[N];
    __device__ constexpr Reversal() : of() {
        for (int i = 1; i < N; ++i)
            of[i] = of[i / 2] / 2 + i % 2 * (N / 2);
    }
};

template <int N>
__device__ constexpr Reversal<N> reversal;

// Joins transforms of SPAN points, two at a time, up to one of N.
template <bool INVERSE, int SPAN, int N>
__device__ __forceinline__ void join(Complex (&x)[N]) {
    if constexpr (SPAN < N) {
#pragma unroll
        for (int i = 0; i < N / 2; ++i) {
            const int k = i % SPAN, at = 2 * i - k;
            butterfly<INVERSE>(k * (TILE / 2 / SPAN), x[at], x[at + SPAN], x[at], x[at + SPAN]);
        }
        join<INVERSE, 2 * SPAN>(x);
    }
}

// x(k) = sum over n of x(n) e^(-+2 pi i n k / N), in place and in order; N divides TILE.
template <bool INVERSE, int N>
__device__ __forceinline__ void fourier(Complex (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const int j = reversal<N>.of[i];
        const Complex kept = x[i];
        if (i < j) {
            x[i] = x[j];
            x[j] = kept;
        }
    }
    join<INVERSE, 1>(x);
}
