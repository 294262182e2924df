// What ranks say to each other: eight operations on typed spans of memory. Every rank of the group calls the
// same operations in the same order with matching counts and types. Each returns when the data is in place
// for work that is submitted to the device's queue afterwards: on the CPU that is at once, on a GPU the host
// does not wait.
//
// Forms: one rank (dist/comm/local.h), ranks as threads of one process (dist/comm/thread.h), MPI (dist/mpi/mpi.h), NCCL
// between GPUs (dist/nccl/nccl.h), and decorators that record, check or break (dist/comm/decorators.h).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device/tensor.h"

namespace muonp::dist {

// A typed span: counts are elements, never bytes.
struct Span {
  void* data = nullptr;
  std::int64_t count = 0;
  core::Dtype dtype = core::Dtype::float32;

  Span() = default;
  Span(void* data_, std::int64_t count_, core::Dtype dtype_) : data(data_), count(count_), dtype(dtype_) {}
  explicit Span(const core::Tensor& t) : Span(t.raw(), t.size(), t.dtype()) {}
  std::int64_t bytes() const { return count * core::size_of(dtype); }
  Span part(std::int64_t begin, std::int64_t n) const {
    return {static_cast<char*>(data) + begin * core::size_of(dtype), n, dtype};
  }
};

struct Transfer {  // one message of a grouped exchange
  int peer;        // may be this rank itself: then it is a copy, and does not cross the network
  Span span;
};

enum class Reduce : std::uint8_t { sum, max, min };

struct Mark {                // the end of an overlap
  std::uint64_t number = 0;  // 0: nothing to wait for
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string description() const = 0;  // "MPI (Open MPI 4.1.4), 4 ranks on 1 host"

  virtual void barrier() = 0;
  virtual void broadcast(Span data, int root) = 0;
  // In place. The sum of an element is taken in rank order, so that it does not depend on how data is cut.
  virtual void all_reduce(Span data, Reduce op) = 0;
  // Small host values in double precision: norms, counts, flags. In place.
  virtual void all_reduce(std::span<double> values, Reduce op) = 0;
  // data is size() slices of equal length; this rank's slice ends up holding the sum, in rank order, of
  // everyone's. The other slices are unspecified afterwards.
  virtual void reduce_scatter(Span data) = 0;
  // data is size() slices of equal length, this rank's is filled in; all are filled in afterwards.
  virtual void all_gather(Span data) = 0;
  // All messages of all ranks at once. Between two ranks, the k-th send matches the k-th receive.
  virtual void exchange(std::span<const Transfer> sends, std::span<const Transfer> receives) = 0;
  // Every rank's bytes, by rank, of any length. For agreement checks and error messages, not for bulk data.
  virtual std::vector<std::string> all_gather_bytes(const std::string& mine) = 0;

  // Operations between begin and end start after what the device's queue was given before them, and run
  // beside what it is given later; wait_for() makes the queue, not the host, wait for them and all before
  // them. Their memory belongs to them until then. Where operations return with the data in place these do
  // nothing.
  virtual void begin_overlap() {}
  virtual Mark end_overlap() { return {}; }
  virtual void wait_for(Mark) {}

  // The rest is for a watchdog too, a thread beside the one that uses the communicator.

  // After a local failure that the others cannot know of: makes their pending and later operations fail with
  // `why`. The reason of the first rank to abort counts: returns it.
  virtual std::string abort(const std::string& why) noexcept = 0;
  // Whether another rank, which has waited for the time-out, asks who is there; and the question or its answer: "nothing
  // came from rank 2 (node7)", or empty when all answer or this form cannot tell. Only one of the ranks that `waited`
  // returns soon, to abort; the others give it the time to end them.
  virtual bool roll_is_called() { return false; }
  virtual std::string call_roll(bool /*waited*/) { return {}; }
};

}  // namespace muonp::dist
