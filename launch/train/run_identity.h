// What a checkpoint is of: the settings and the data that its numbers have a meaning with. It is saved with the state, and
// compared by whoever reads it, so that a checkpoint is not taken for one of another run whose tensors have the same shapes.
#pragma once

#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/autograd/parameter.h"
#include "core/data/dataset.h"
#include "core/files/checkpoint_pieces.h"
#include "launch/train/run_config.h"

namespace muonp::launch {

struct RunIdentity {
  // By the keys of the configuration: "optimizer.matrices.rule" is "muonp". What a path names stands there by its content:
  // "data.train" is "120000 tokens, hash 5be1a07d2c3f4e61".
  core::NamedValues values;
  std::string folder;  // that relative paths of the configuration started from; empty if it is not known
};

// The key of the weights that a run started from. Its value is PretrainedWeights::identity(), never the path; where the
// folder is gone, it is not among the values.
inline constexpr const char* kStartingWeights = "model.from";

std::string describe_tokenizer(const core::Tokenizer& tokenizer);
std::string describe_tokens(const core::TokenSource& tokens);
std::string describe_examples(const core::ExampleStore& examples);
// data.train, data.mix, data.validation, data.validation_fraction and data.tokenizer. Reads up to 8 million tokens of each
// part.
core::NamedValues data_identity(const core::DataConfig& config, const core::Dataset& dataset);
// Of a run that this process makes now. `config` as from resolve(), `data` as from data_identity(), with kStartingWeights if
// there are any.
RunIdentity run_identity(const RunConfig& config, const core::NamedValues& data);
// The settings that all ranks must have alike, in the order of the configuration: all of them but parallel.threads, since
// hosts have different numbers of cores, and the paths of data, tokenizer and starting weights, which are compared by
// content once they are open.
core::NamedValues rank_identity(const RunConfig& config);

// What only the checkpoint that a run goes on from knows any more: the weights that it started from.
void take_over(const RunIdentity& saved, RunIdentity& mine);

// In a checkpoint's state and in exported weights, as JSON. Of a checkpoint that is older than this, what it says elsewhere.
std::string to_json(const RunIdentity& identity);
RunIdentity identity_from_json(const std::string& json, const std::string& file);
RunIdentity identity_of(const core::Checkpoint& checkpoint);

// What a run that goes on from a checkpoint is told: one line for each setting that changes and may, and one for all those
// that the checkpoint does not say. Error lists every other difference, each with its key and both values, unless it matches
// one of the patterns of `allowed` (checkpoint.allow); then it is such a line as well. `path` begins the messages.
std::vector<std::string> require_same_run(const std::string& path, const RunIdentity& saved, const core::NamedValues& mine,
                                          std::span<const std::string> allowed);
// The same for one that only reads, of the keys that match one of the patterns; settings that may change are not compared.
// Error ends in `advice`.
std::vector<std::string> require_same_values(const std::string& path, const RunIdentity& saved,
                                             const core::NamedValues& mine, std::span<const std::string_view> patterns,
                                             const std::string& advice);

// The tensor of a checkpoint that holds the weights which a parameter is evaluated with: its average where its rule keeps
// one, its master weights otherwise.
std::string evaluated_tensor(const core::PieceReader& reader, const std::string& parameter);
// Those whose state a checkpoint's files hold as "<parameter>/<state>".
std::set<std::string> parameters_in(const core::PieceReader& reader);
// Error names the parameters that only one of the two has. `stored`: the names in `path`.
void require_same_parameters(const std::string& path, const std::set<std::string>& stored,
                             const core::ParameterList& parameters);

}  // namespace muonp::launch
