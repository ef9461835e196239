#define UNROLLED _Pragma("clang loop unroll(full)")

// Products of rows with affine weights of BITS bits, GROUP to a scale and a bias. A lane
// takes a piece at a time: two words, SIZE weights, which lie in one group.
template <typename T>
struct Affine {
  const device uint* weight;
  const device T* scales;
  const device T* biases;
};

// Of all experts' rows of weights, those from `first` on.
template <typename T, int BITS, int GROUP, int INPUTS>
inline Affine<T> expert(Affine<T> all, uint first) {
  return {all.weight + first * (INPUTS / 32 * BITS),
          all.scales + first * (INPUTS / GROUP), all.biases + first * (INPUTS / GROUP)};
}

// The weights of a word as halves 2^BITS + weight, number i beside i + 16 / BITS. Apple's
// GPUs multiply halves by floats as they are, but convert integers at a quarter of the
// rate.
template <int BITS>
inline void unpack(uint word, thread half2* pairs) {
  constexpr int PLACE = 10 - BITS;  // of a weight in the ten bits of a half's fraction
  constexpr uint MASK = 0x10001u * (((1u << BITS) - 1) << PLACE);
  constexpr uint BASE = 0x10001u * ((15u + BITS) << 10);
  UNROLLED for (int i = 0; i < 16 / BITS; i++) {
    const int shift = BITS * i - PLACE;
    const uint placed = shift < 0 ? word << -shift : word >> shift;
    pairs[i] = as_type<half2>((placed & MASK) | BASE);
  }
}

// What a piece's weights meet in each of TOKENS rows of x, and the sum of it. x begins
// where four elements may be read at once.
template <typename T, int SIZE, int INPUTS, int TOKENS>
inline void take(
    const device T* x, uint token0, uint tokens, uint piece,
    thread float* values, thread float* sums) {
  UNROLLED for (uint t = 0; t < TOKENS; t++) {
    const uint row = min(token0 + t, tokens - 1);  // some twice rather than none
    const device T* from = x + row * INPUTS + piece * SIZE;
    sums[t] = 0.0f;
    UNROLLED for (int i = 0; i < SIZE; i += 4) {
      const metal::vec<T, 4> four = *(const device metal::vec<T, 4>*)(from + i);
      thread float* to = values + t * SIZE + i;
      UNROLLED for (int j = 0; j < 4; j++) to[j] = float(four[j]);
      sums[t] += (to[0] + to[1]) + (to[2] + to[3]);
    }
  }
}

// Adds the product of what was taken with a piece of one row of weights.
template <typename T, int BITS, int GROUP, int INPUTS, int TOKENS>
inline void add_piece(
    Affine<T> map, uint row, uint piece, const thread float* values,
    const thread float* sums, thread float* total) {
  constexpr uint SIZE = 64 / BITS;
  constexpr uint HALF = SIZE / 4;
  const uint at = (row * (INPUTS / SIZE) + piece) * 2;
  const uint2 words = *(const device uint2*)(map.weight + at);
  half2 pairs[SIZE / 2];
  unpack<BITS>(words.x, pairs);
  unpack<BITS>(words.y, pairs + HALF);
  const uint group = row * (INPUTS / GROUP) + piece * SIZE / GROUP;
  const float scale = float(map.scales[group]);
  const float bias = float(map.biases[group]);
  UNROLLED for (uint t = 0; t < TOKENS; t++) {
    float dot = -float(1 << BITS) * sums[t];
    UNROLLED for (uint p = 0; p < SIZE / 2; p++) {
      const uint i = t * SIZE + p / HALF * 2 * HALF + p % HALF;
      dot += float(pairs[p].x) * values[i];
      dot += float(pairs[p].y) * values[i + HALF];
    }
    total[t] += scale * dot;
    total[t] += bias * sums[t];
  }
}

// total[(m * ROWS + r) * TOKENS + t], in all lanes: rows of x from token0 on times rows
// from row0 on of each of the maps. Where few pieces are left for a last round, parts of
// a simdgroup take those of different rows.
template <typename T, int BITS, int GROUP, int INPUTS, int ROWS, int TOKENS, int COUNT>
inline void products(
    const device T* x, uint token0, uint tokens, const thread Affine<T>* maps,
    uint row0, uint outputs, uint lane, thread float* total) {
  constexpr uint SIZE = 64 / BITS;
  constexpr uint REST = INPUTS / SIZE % 32;
  constexpr uint WHOLE = INPUTS / SIZE - REST;
  constexpr uint FIT = REST > 16 ? 1 : REST > 8 ? 2 : 4;
  constexpr uint WIDE = FIT < ROWS ? FIT : ROWS;  // rows at once in the last round
  constexpr uint PART = 32 / WIDE;
  float values[TOKENS * SIZE];
  float sums[TOKENS];
  UNROLLED for (uint i = 0; i < COUNT * ROWS * TOKENS; i++) total[i] = 0.0f;
  for (uint block = 0; block < WHOLE; block += 32) {
    const uint piece = block + lane;
    take<T, SIZE, INPUTS, TOKENS>(x, token0, tokens, piece, values, sums);
    UNROLLED for (uint m = 0; m < COUNT; m++) {
      UNROLLED for (uint r = 0; r < ROWS; r++) {
        const uint row = min(row0 + r, outputs - 1);
        add_piece<T, BITS, GROUP, INPUTS, TOKENS>(
            maps[m], row, piece, values, sums, total + (m * ROWS + r) * TOKENS);
      }
    }
  }
  if (REST > 0 && lane % PART < REST) {
    const uint piece = WHOLE + lane % PART;
    take<T, SIZE, INPUTS, TOKENS>(x, token0, tokens, piece, values, sums);
    UNROLLED for (uint i = 0; i < COUNT * ROWS; i += WIDE) {
      float parts[TOKENS];
      UNROLLED for (uint t = 0; t < TOKENS; t++) parts[t] = 0.0f;
      const uint row = min(row0 + i % ROWS + lane / PART, outputs - 1);
      add_piece<T, BITS, GROUP, INPUTS, TOKENS>(
          maps[i / ROWS], row, piece, values, sums, parts);
      UNROLLED for (uint j = 0; j < WIDE * TOKENS; j++)
        total[i * TOKENS + j] += lane / PART == j / TOKENS ? parts[j % TOKENS] : 0.0f;
    }
  }
  UNROLLED for (uint i = 0; i < COUNT * ROWS * TOKENS; i++) total[i] = simd_sum(total[i]);
}

// gelu by tanh, which is g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)).
inline float gelu(float g) {
  const float shape = 1.5957691216057308f * (g + 0.044715f * g * g * g);
  return g / (1.0f + metal::precise::exp(-shape));
}
