// Forward passes of all ranks side by side. Each rank works on its own part, however long that takes; before each pass the
// ranks meet. So none takes another for dead, all hear at once of a wish to stop, and where weights are gathered for a pass
// (ZeRO stage 3), one that has nothing left goes through the others' passes with them.
#pragma once

#include <exception>
#include <functional>
#include <span>

#include "dist/comm/agreement.h"
#include "launch/inference/subject.h"
#include "launch/program/signals.h"

namespace muonp::launch {

// The items of all ranks together that are done, and how many there are; on every rank alike.
using OnItems = std::function<void(std::int64_t done, std::int64_t total)>;

class Passes {
 public:
  Passes(const Subject& subject, std::int64_t items, OnItems on_items)
      : subject_(subject), items_(items), on_items_(std::move(on_items)) {}

  // Before each forward pass, which has to follow. Throws Interrupted, on all ranks, when one is asked to stop
  // (launch/program/signals.h).
  core::Tape open();
  models::OpenPass opener() {
    return [this] { return open(); };
  }
  // This rank has done so many more items.
  void add_done(std::int64_t items) { new_items_ += items; }
  // This rank makes no further pass. Returns when none does.
  void finish();

 private:
  bool meet(bool goes_on);  // whether any rank does
  void pass_along();

  const Subject& subject_;
  std::int64_t items_, done_ = 0, new_items_ = 0;
  OnItems on_items_;
};

// work(Passes&) on every rank, which may fail on some: an Error of one is then every rank's. Collective.
template <class Work>
void run_side_by_side(const Subject& subject, std::int64_t items, const OnItems& on_items, const Work& work) {
  Passes passes(subject, items, on_items);
  std::exception_ptr failure;
  try {
    work(passes);
  } catch (const Interrupted&) {
    throw;
  } catch (...) {
    failure = std::current_exception();
  }
  passes.finish();
  dist::rethrow_on_all(subject.communicator, failure);
}

// One number for each of `items`, all of them on every rank. They are worked on in batches of `batch` that do not depend on
// the number of ranks, and neither do the numbers. work(passes, first, to) writes those of items [first, first + to.size()).
// Collective.
using WorkOnItems = std::function<void(Passes&, std::int64_t first, std::span<double> to)>;
std::vector<double> numbers_of_items(const Subject& subject, std::int64_t items, std::int64_t batch, const OnItems& on_items,
                                     const WorkOnItems& work);

}  // namespace muonp::launch
