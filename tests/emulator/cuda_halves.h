// __half and __nv_bfloat16: bits in memory, arithmetic in fp32, each result rounded to nearest even.
#pragma once

namespace emulator {
inline uint16_t half_bits(float value) {
    const unsigned all = emulate_bits<unsigned>(value), bits = all & 0x7fffffff;
    const uint16_t sign = all >> 16 & 0x8000;
    if (bits > 0x7f800000) return 0x7fff;
    if (bits >= 0x477ff000) return sign | 0x7c00;  // 65520 and more
    if (bits < 0x38800000)                         // below 2^-14: the unit of 0.5 is that of subnormals
        return sign | (emulate_bits<unsigned>(emulate_bits<float>(bits) + 0.5f) - 0x3f000000);
    return sign | (bits + 0xfff + (bits >> 13 & 1) - 0x38000000) >> 13;
}

inline float half_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 0x3ff;
    unsigned single;
    if (exponent == 31) single = 0x7f800000 | mantissa << 13;
    else if (exponent) single = (exponent + 112) << 23 | mantissa << 13;
    else single = emulate_bits<unsigned>(ldexpf((float)mantissa, -24));
    return emulate_bits<float>(single | (bits & 0x8000u) << 16);
}

inline uint16_t bfloat_bits(float value) {
    if (isnan(value)) return 0x7fff;
    const unsigned bits = emulate_bits<unsigned>(value);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float bfloat_value(uint16_t bits) { return emulate_bits<float>((unsigned)bits << 16); }
}  // namespace emulator

#define EMULATE_HALF(Half, raw, encode, decode)                                     \
    struct Half {                                                                   \
        uint16_t raw;                                                               \
        Half() = default;                                                           \
        Half(float value) : raw(emulator::encode(value)) {}                         \
        operator float() const { return emulator::decode(raw); }                    \
        Half &operator+=(Half b) { return *this = Half((float)*this + (float)b); }  \
    };                                                                              \
    inline Half operator+(Half a, Half b) { return Half((float)a + (float)b); }     \
    inline Half operator-(Half a, Half b) { return Half((float)a - (float)b); }     \
    inline Half operator*(Half a, Half b) { return Half((float)a * (float)b); }     \
    inline Half operator-(Half a) { return Half(-(float)a); }                       \
    inline Half __hadd(Half a, Half b) { return a + b; }                            \
    inline Half __hsub(Half a, Half b) { return a - b; }                            \
    inline Half __hmul(Half a, Half b) { return a * b; }                            \
    inline Half __hfma(Half a, Half b, Half c) { return fmaf(a, b, c); }            \
    struct alignas(4) Half##2 { Half x, y; };                                       \
    inline Half __low2half(Half##2 a) { return a.x; }                               \
    inline Half __high2half(Half##2 a) { return a.y; }                              \
    inline float __low2float(Half##2 a) { return a.x; }                             \
    inline float __high2float(Half##2 a) { return a.y; }                            \
    inline Half##2 __hadd2(Half##2 a, Half##2 b) { return {a.x + b.x, a.y + b.y}; } \
    inline Half##2 __hsub2(Half##2 a, Half##2 b) { return {a.x - b.x, a.y - b.y}; } \
    inline Half##2 __hmul2(Half##2 a, Half##2 b) { return {a.x * b.x, a.y * b.y}; } \
    inline Half##2 __hfma2(Half##2 a, Half##2 b, Half##2 c) {                       \
        return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                      \
    }

EMULATE_HALF(__half, bits, half_bits, half_value)
EMULATE_HALF(__nv_bfloat16, bits, bfloat_bits, bfloat_value)
using half = __half;
using half2 = __half2;
using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline float __half2float(__half a) { return a; }
inline __half __float2half(float a) { return a; }
inline __half __float2half_rn(float a) { return a; }
inline __half __double2half(double a) { return a; }
inline __half2 __floats2half2_rn(float x, float y) { return {x, y}; }
inline __half2 __float22half2_rn(float2 a) { return {a.x, a.y}; }
inline __half2 __float2half2_rn(float a) { return {a, a}; }
inline float2 __half22float2(__half2 a) { return {a.x, a.y}; }
inline __half2 __halves2half2(__half x, __half y) { return {x, y}; }
inline __half2 __half2half2(__half a) { return {a, a}; }
inline unsigned short __half_as_ushort(__half a) { return a.bits; }
inline __half __ushort_as_half(unsigned short a) { return emulate_bits<__half>(a); }

inline float __bfloat162float(__nv_bfloat16 a) { return a; }
inline __nv_bfloat16 __float2bfloat16(float a) { return a; }
inline __nv_bfloat16 __float2bfloat16_rn(float a) { return a; }
inline __nv_bfloat16 __double2bfloat16(double a) { return a; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 a) { return {a.x, a.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 a) { return {a.x, a.y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 a) { return a.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short a) { return emulate_bits<__nv_bfloat16>(a); }
