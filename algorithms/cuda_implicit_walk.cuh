// How results along rows or columns meet pixels of the image operand.
#pragma once

// Results first + i * every, i < count, read pixels i * step + start + t * dilation (if 0 <= pixel < size)
// and multiply them with the stored taps tap + t * tap_step, t < taps.
struct Walk {
    int first, every, count, step, start, dilation, taps, tap, tap_step, size;
};

// What taps add to a position at least: not 0 where they go backwards.
__device__ __forceinline__ int lowest(const Walk &walk) { return min(0, (walk.taps - 1) * walk.dilation); }
