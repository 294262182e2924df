// Which calls of the ranks belong together, and what becomes of them.
#include <algorithm>

#include "nccl_hub.h"

namespace cuda_host::nccl {

void Hub::advance() {
  if (!ready_ || failure_ != ncclSuccess) return;
  while (failure_ == ncclSuccess && (match_messages() || match_collective())) {
  }
  if (failure_ != ncclSuccess) return;
  answer_complete();
  answer_finalize();
  check_circle();
}

bool Hub::complete(const Rank& rank) const {
  return std::ranges::all_of(rank.parts, [](const Part& part) { return part.done; });
}

// Collectives are taken in the order of the calls.
Hub::Part* Hub::next_collective(Rank& rank) const {
  if (!rank.waits) return nullptr;
  const auto found =
      std::ranges::find_if(rank.parts, [](const Part& part) { return !part.done && is_collective(part.operation.call); });
  return found == rank.parts.end() ? nullptr : &*found;
}

Hub::Part* Hub::next_message(Rank& rank, Call call, size_t peer) const {
  if (!rank.waits) return nullptr;
  const auto found = std::ranges::find_if(rank.parts, [&](const Part& part) {
    return !part.done && part.operation.call == call && part.operation.peer == static_cast<int>(peer);
  });
  return found == rank.parts.end() ? nullptr : &*found;
}

// The k-th send with the k-th receive of each pair.
bool Hub::match_messages() {
  bool moved = false;
  for (size_t from = 0; from < ranks_.size(); ++from) {
    for (size_t to = 0; to < ranks_.size(); ++to) {
      Part* send = next_message(ranks_[from], Call::kSend, to);
      Part* receive = next_message(ranks_[to], Call::kRecv, from);
      if (send == nullptr || receive == nullptr) continue;
      const Operation &a = send->operation, &b = receive->operation;
      if (a.count != b.count || a.type != b.type) {
        fail(ncclInvalidUsage,
             "rank " + std::to_string(from) + " calls " + describe(a) + ", rank " + std::to_string(to) + " calls " +
                 describe(b),
             true);
        return false;
      }
      receive->output.assign(send->input, send->input + a.bytes());
      send->done = receive->done = moved = true;
    }
  }
  return moved;
}

bool Hub::match_collective() {
  std::vector<Part*> parts;
  for (Rank& rank : ranks_) parts.push_back(next_collective(rank));
  if (std::ranges::find(parts, nullptr) != parts.end()) return false;
  if (const std::string text = difference(parts); !text.empty()) {
    fail(ncclInvalidUsage, text, true);
    return false;
  }
  run_collective(parts);
  for (Part* part : parts) part->done = true;
  return true;
}

std::string Hub::difference(const std::vector<Part*>& parts) const {
  const Operation& first = parts[0]->operation;
  for (size_t r = 1; r < parts.size(); ++r) {
    const Operation& other = parts[r]->operation;
    const bool reduces = first.call == Call::kAllReduce || first.call == Call::kReduceScatter;
    const bool same = first.call == other.call && first.type == other.type && first.count == other.count &&
                      (!reduces || first.reduction == other.reduction) &&
                      (first.call != Call::kBroadcast || first.peer == other.peer);
    if (!same) return "rank 0 calls " + describe(first) + ", rank " + std::to_string(r) + " calls " + describe(other);
  }
  return "";
}

void Hub::run_collective(const std::vector<Part*>& parts) {
  const Operation& o = parts[0]->operation;
  const size_t bytes = o.bytes();
  // A slice of all inputs, added up in rank order, is the output of `to`.
  const auto sum = [&](size_t slice, std::vector<char>& to) {
    to.assign(parts[0]->input + slice * bytes, parts[0]->input + (slice + 1) * bytes);
    for (size_t r = 1; r < parts.size(); ++r) {
      reduce(o.type, o.reduction, to.data(), parts[r]->input + slice * bytes, o.count);
    }
  };
  switch (o.call) {
    case Call::kAllReduce:
      sum(0, parts[0]->output);
      for (size_t r = 1; r < parts.size(); ++r) parts[r]->output = parts[0]->output;
      break;
    case Call::kReduceScatter:
      for (size_t r = 0; r < parts.size(); ++r) sum(r, parts[r]->output);
      break;
    case Call::kAllGather:
      for (Part* part : parts) {
        part->output.clear();
        for (const Part* from : parts) part->output.insert(part->output.end(), from->input, from->input + bytes);
      }
      break;
    case Call::kBroadcast:
      for (Part* part : parts) {
        const char* from = parts[static_cast<size_t>(o.peer)]->input;
        part->output.assign(from, from + bytes);
      }
      break;
    default:
      break;
  }
}

void Hub::answer_complete() {
  for (Rank& rank : ranks_) {
    if (rank.waits && rank.message.kind == Kind::kGroup && complete(rank)) answer(rank, ncclSuccess, "");
  }
}

// From the last rank down: rank 0's process, where this thread usually lives, may end when it has its answer.
void Hub::answer_finalize() {
  const auto finalizes = [](const Rank& r) { return r.waits && r.message.kind == Kind::kFinalize; };
  if (!std::ranges::all_of(ranks_, finalizes)) return;
  for (auto rank = ranks_.rbegin(); rank != ranks_.rend(); ++rank) answer(*rank, ncclSuccess, "");
  failure_ = ncclInvalidUsage;
  failure_text_ = "the communicator was finalized";
}

// A rank's calls come one after the other: where all wait, nothing can come any more.
void Hub::check_circle() {
  if (failure_ != ncclSuccess || !std::ranges::all_of(ranks_, &Rank::waits)) return;
  std::string text = "every rank waits for another: ";
  for (size_t r = 0; r < ranks_.size(); ++r) text += (r > 0 ? "; " : "") + waits_in(r);
  fail(ncclInvalidUsage, text, true);
}

}  // namespace cuda_host::nccl
