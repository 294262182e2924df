#include "dist/plan/gather_plan.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/index.h"

namespace muonp::dist {

namespace {

using Buckets = std::vector<int>;

bool contains(const Buckets& all, int bucket) { return std::ranges::find(all, bucket) != all.end(); }

// Neighbours that need nothing new are one stop.
std::vector<Buckets> read_buckets(const ShardPlan& shards, const GatherPlan::Reads& reads) {
  std::vector<Buckets> stops;
  for (const std::vector<int>& parameters : reads) {
    Buckets buckets;
    for (int p : parameters)
      if (const int bucket = shards.bucket_of(p); !contains(buckets, bucket)) buckets.push_back(bucket);
    const auto held = [&](int bucket) { return !stops.empty() && contains(stops.back(), bucket); };
    if (!std::ranges::all_of(buckets, held)) stops.push_back(std::move(buckets));
  }
  return stops;
}

// What stop `at` reads, then the next different buckets that are read after it.
Buckets window(const std::vector<Buckets>& stops, std::size_t at, int prefetch) {
  Buckets wanted = stops[at];
  const std::size_t most = wanted.size() + static_cast<std::size_t>(prefetch);
  for (std::size_t next = at + 1; next < stops.size() && wanted.size() < most; ++next)
    for (int bucket : stops[next])
      if (wanted.size() < most && !contains(wanted, bucket)) wanted.push_back(bucket);
  return wanted;
}

Buckets without(const Buckets& from, const Buckets& what) {
  Buckets rest;
  std::ranges::copy_if(from, std::back_inserter(rest), [&](int bucket) { return !contains(what, bucket); });
  return rest;
}

GatherPlan::Pass plan_pass(const ShardPlan& shards, const std::vector<Buckets>& stops, int prefetch) {
  const auto elements = [&](const Buckets& buckets) {
    std::int64_t sum = 0;
    for (int b : buckets) sum += shards.buckets()[core::at(b)].size;
    return sum;
  };
  GatherPlan::Pass pass;
  Buckets held;
  for (std::size_t at = 0; at < stops.size(); ++at) {
    const Buckets wanted = window(stops, at, prefetch);
    pass.stops.push_back({stops[at], without(held, wanted), without(wanted, held), elements(wanted)});
    pass.gathered += elements(pass.stops.back().gather);
    pass.most_held = std::max(pass.most_held, pass.stops.back().held);
    held = wanted;
  }
  return pass;
}

}  // namespace

GatherPlan::GatherPlan(const ShardPlan& shards, const Reads& forward, const Reads& backward, int prefetch) {
  MUONP_ASSERT(prefetch >= 0, "{} buckets ahead", prefetch);
  for (std::size_t p = 0; p < shards.parameters().size(); ++p) bucket_of_.push_back(shards.bucket_of(static_cast<int>(p)));
  forward_ = plan_pass(shards, read_buckets(shards, forward), prefetch);
  Reads both = forward;
  both.insert(both.end(), backward.begin(), backward.end());
  training_ = plan_pass(shards, read_buckets(shards, both), prefetch);
}

std::vector<int> GatherPlan::buckets_of(const std::vector<int>& parameters) const {
  Buckets buckets;
  for (int p : parameters) buckets.push_back(bucket_of_[core::at(p)]);
  return buckets;
}

namespace {

// Where a pass is.
class Walk {
 public:
  explicit Walk(const GatherPlan::Pass& pass) : pass_(pass) {}
  void read(const Buckets& buckets) {
    const auto there = [&](int bucket) { return entered_ > 0 && contains(pass_.stops[entered_ - 1].read, bucket); };
    if (!std::ranges::all_of(buckets, there)) ++entered_;
  }
  std::int64_t held() const { return entered_ == 0 ? 0 : pass_.stops[entered_ - 1].held; }

 private:
  const GatherPlan::Pass& pass_;
  std::size_t entered_ = 0;
};

}  // namespace

std::vector<std::int64_t> GatherPlan::held_together(
    const GatherPlan& first, const GatherPlan* second,
    const std::vector<std::pair<std::vector<int>, std::vector<int>>>& reads) {
  const Pass none;
  Walk a(first.training()), b(second == nullptr ? none : second->training());
  std::vector<std::int64_t> held;
  for (const auto& [of_first, of_second] : reads) {
    a.read(first.buckets_of(of_first));
    const std::int64_t before = a.held() + b.held();
    if (second != nullptr) b.read(second->buckets_of(of_second));
    held.push_back(std::max(before, a.held() + b.held()));
  }
  return held;
}

std::string GatherPlan::describe() const {
  std::string text = "gathers of a pass:";
  for (const Stop& stop : training_.stops) text += fmt::format(" {}", fmt::join(stop.gather, ","));
  return text + "\n";
}

}  // namespace muonp::dist
