#include "launch/records/start_record.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/files/strict_json.h"

namespace muonp::launch {
namespace {

using nlohmann::json;

// Calls visit(name, field) for each field, so that writing and reading know the same ones.
template <class Record, class Visit>
void for_each_field(Record& r, const Visit& visit) {
  visit("device", r.device);
  visit("ranks", r.ranks);
  visit("model", r.model);
  visit("data", r.data);
  visit("parameters", r.parameters);
  visit("step", r.step);
  visit("imbalance", r.imbalance);
  visit("sent_bytes_per_step", r.sent_bytes);
  visit("weights_bytes", r.weights);
  visit("gradients_bytes", r.gradients);
  visit("optimizer_bytes", r.optimizer);
  visit("exchange_bytes", r.exchange);
  visit("activations_bytes", r.activations);
  visit("snapshot_bytes", r.snapshot);
  visit("host_bytes", r.host);
  visit("load", r.load);
  visit("matrices", r.matrices);
}

}  // namespace

std::int64_t StartRecord::peak_bytes(std::size_t rank) const {
  return weights.at(rank) + gradients.at(rank) + optimizer.at(rank) + std::max(exchange.at(rank), activations.at(rank)) +
         snapshot.at(rank);
}

std::string to_json(const StartRecord& record) {
  nlohmann::ordered_json object;
  for_each_field(record, [&](const char* name, const auto& field) { object[name] = field; });
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

StartRecord parse_start_record(const std::string& text) {
  StartRecord record;
  try {
    const json object = core::parse_strict_json(text);
    for_each_field(record, [&](const char* name, auto& field) { object.at(name).get_to(field); });
  } catch (const json::exception& error) {
    core::fail("{}", error.what());
  }
  const std::size_t n = record.world_size();
  for (const auto* list : {&record.weights, &record.gradients, &record.optimizer, &record.exchange, &record.activations,
                           &record.snapshot, &record.host, &record.matrices})
    if (list->size() != n) core::fail("lists of {} and of {} ranks", n, list->size());
  return record;
}

}  // namespace muonp::launch
