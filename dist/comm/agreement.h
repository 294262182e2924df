// Points that all ranks reach and where they make sure that they mean the same. All functions are collective.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include "core/config/config.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

// A failure that every rank knows of and throws with the same message: rank 0 alone needs to print it, and
// the ranks can still end in an orderly way.
class AgreedError : public core::Error {
 public:
  using core::Error::Error;
};

// Compares `hash` over all ranks. When it differs, every rank throws an AgreedError that names `what`, the
// first line of `description` that differs, and the ranks that hold each version of it.
void require_agreement(Communicator& communicator, std::string_view what, std::uint64_t hash,
                       const std::string& description);

// Compares the lists of all ranks, name by name: their hash first, so that equal ones cost a few bytes. Where some
// differ, every rank throws an AgreedError with the first name whose value on the lowest rank that differs from rank 0
// is another, both values and both hosts. Values are what a person reads, and hold no zero byte.
void require_same(Communicator& communicator, const core::NamedValues& mine);

// Whether `mine` holds on all ranks; the same answer on all ranks.
bool all_agree(Communicator& communicator, bool mine);

// Call at a point that all ranks reach whether or not they failed before it, never from a handler that only
// the failing rank enters. If `local` is set on any rank, every rank throws one AgreedError with the message
// of each failing rank and its host; equal messages are said once.
void rethrow_on_all(Communicator& communicator, std::exception_ptr local);

// Runs `work` on every rank and then rethrow_on_all: for work that may fail on one rank and holds no
// collective.
template <class F>
void run_on_all(Communicator& communicator, const F& work) {
  std::exception_ptr failure;
  try {
    work();
  } catch (...) {
    failure = std::current_exception();
  }
  rethrow_on_all(communicator, failure);
}

}  // namespace muonp::dist
