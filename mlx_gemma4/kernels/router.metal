// The K largest scores of a token, their softmax, and a scale for each. One simdgroup for
// each token; a lane holds the scores of every 32nd expert.
const uint token = threadgroup_position_in_grid.x;
const uint lane = thread_index_in_simdgroup;
const uint experts = uint(scores_shape[1]);

float held[HELD];
for (uint j = 0; j < HELD; j++) {
  const uint expert = lane + 32 * j;
  held[j] = expert < experts ? float(scores[token * experts + expert]) : 0.0f;
}

uint taken = 0;  // bits of held
float score = -INFINITY;
uint index = 0;
for (uint k = 0; k < K; k++) {
  float best = -INFINITY;
  uint candidate = 0xffffffffu;
  for (uint j = 0; j < HELD; j++) {
    const uint expert = lane + 32 * j;
    if (expert >= experts || (taken >> j & 1) != 0) continue;
    if (candidate == 0xffffffffu || held[j] > best) {
      best = held[j];
      candidate = expert;
    }
  }
  const float most = simd_max(best);
  // Of equal scores the first; with NaNs some expert, never one that does not exist.
  const uint winner = simd_min(best == most ? candidate : 0xffffffffu);
  if (winner % 32 == lane && winner < experts) taken |= 1u << (winner / 32);
  if (lane == k) {
    score = most;
    index = min(winner, experts - 1);
  }
}

const float most = simd_broadcast(score, 0);
const float share = lane < K ? metal::precise::exp(score - most) : 0.0f;
const float sum = simd_sum(share);
if (lane < K) {
  chosen[token * K + lane] = index;
  weights[token * K + lane] = T(share / sum * float(expert_scale[index]));
}
