// Metal Shading Language as C++20, so that a kernel's own text runs on a CPU.
//
// This header is what the text sees; runtime.cpp, compiled once, runs its threads.
// Not modelled: fast-math, denormals, coherence between threadgroups in one launch,
// simdgroups of another width than 32, textures, swizzles beyond the named members.
#pragma once
#include "metal_types.h"

#include "metal_math.h"

#include "metal_simd.h"

using namespace metal;

// Address spaces last: a C++ header must not see them. The translation has turned
// threadgroup arrays into allocations already.
#define device
#define constant
#define thread
#define threadgroup
