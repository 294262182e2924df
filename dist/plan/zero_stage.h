// What a ZeRO stage means (Rajbhandari et al., arXiv 1910.02054), as the facts that decide: all code asks these, and none
// compares numbers of stages.
#pragma once

#include "core/base/error.h"

namespace muonp::dist {

struct ZeroStage {
  ZeroStage(int stage)
      : number(stage), keeps_slice(stage >= 1), reduces_each_pass(stage >= 2), gathers_each_pass(stage == 3) {
    if (stage < 0 || stage > 3)
      core::fail("parallel.zero: {} is no ZeRO stage of this program; valid are 0, 1, 2 and 3", stage);
  }

  int number;
  bool keeps_slice;        // masters, optimizer state and reduced gradients: this rank's slice of a bucket, else all of it
  bool reduces_each_pass;  // a bucket of gradients is whole only until it is reduced, in every pass
  bool gathers_each_pass;  // a bucket of weights is whole only while a pass reads it, else always
};

}  // namespace muonp::dist
