// start.json in a run's folder: what was planned when it was last started, for those who look at it later.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace muonp::launch {

struct StartRecord {
  std::string device = {}, ranks = {}, model = {}, data = {};  // one line each
  std::int64_t parameters = 0;                                 // elements that are trained
  std::int64_t step = 0;                                       // done before
  double imbalance = 0;                                        // of the owners: largest load / mean
  double sent_bytes = 0;                                       // by a rank in a step, averaged over ranks
  // One value a rank, at the peak of a step as planned; host memory apart.
  std::vector<std::int64_t> weights = {}, gradients = {}, optimizer = {}, exchange = {}, activations = {}, snapshot = {},
                            host = {};
  std::vector<double> load = {};            // of an owner: flops of its matrices
  std::vector<std::int64_t> matrices = {};  // that it owns

  std::size_t world_size() const { return load.size(); }
  // As launch/train/start_report.h plans it: exchange and activations are not alive at the same time.
  std::int64_t peak_bytes(std::size_t rank) const;
};

std::string to_json(const StartRecord& record);
// Error for a text that is none of the above, without a file's name.
StartRecord parse_start_record(const std::string& json);

}  // namespace muonp::launch
