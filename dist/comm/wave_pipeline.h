// The way of matrices through their owners, wave by wave: to the owner, computed there, and back. While one wave is computed
// the next is on its way to its owners and the last on its way back. What a message is, whole pieces or what a compressor
// makes of them, is the transport's.
//
//   for (WavePipeline pipeline(transport, communicator, async); pipeline.next(wave);) {
//     compute(wave.mine);             // in -> out
//     pipeline.give_back(wave);
//     for (int task : wave.arrived) apply(task);
//   }
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/base/index.h"
#include "dist/comm/async.h"
#include "dist/comm/communicator.h"

namespace muonp::dist {

struct OwnedMatrix {
  int task;          // in the transport's numbering
  core::Tensor in;   // what was gathered; to be left as it is
  core::Tensor out;  // to be written
};

struct Messages {
  std::vector<Transfer> sends, receives;
};

// Each function is called once for each wave, in order; gather() one wave ahead of the others.
class WaveTransport {
 public:
  virtual ~WaveTransport() = default;
  virtual int waves() const = 0;
  virtual std::span<const int> tasks(int wave) const = 0;  // of all ranks
  // What goes to owners; nothing where every rank has all of it already.
  virtual std::optional<Messages> gather(int wave) = 0;
  // It is there: the matrices that this rank owns, with room for results.
  virtual std::vector<OwnedMatrix> take(int wave) = 0;
  // What goes back, of the matrices that take() gave and that are computed now.
  virtual Messages scatter(int wave, std::span<const OwnedMatrix> mine) = 0;
  // It is back.
  virtual void arrive(int wave) = 0;
};

struct Wave {
  int index = 0;
  std::vector<OwnedMatrix> mine;
  std::vector<int> arrived;  // after give_back(): tasks of the wave before, whose results are back on every rank
};

class WavePipeline {
 public:
  WavePipeline(WaveTransport& transport, Communicator& communicator, AsyncQueue& async);
  // The next wave to compute; after the last one, a wave with no matrices, in which the last results arrive. Collective.
  bool next(Wave& wave);
  void give_back(Wave& wave);

 private:
  struct Flight {
    Messages there, back;
    std::vector<OwnedMatrix> computed;  // until their results have been sent
    AsyncQueue::Ticket gathered{}, scattered{};
  };
  void start(int wave);
  AsyncQueue::Ticket send(const Messages& messages);
  Flight& at(int wave) { return flights_[core::at(wave)]; }

  WaveTransport& transport_;
  Communicator& communicator_;
  AsyncQueue& async_;
  std::vector<Flight> flights_;  // by wave; work under way refers to them
  int next_ = 0;
  DrainOnError drain_;
};

}  // namespace muonp::dist
