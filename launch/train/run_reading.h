// A run for those who only read it (eval, generate): it may have been moved or belong to someone else, and nothing is
// written into it or beside it.
#pragma once

#include <string>

#include "launch/train/run_identity.h"

namespace muonp::launch {

// What `muonp train` leaves in the run's folder for them: a copy of the tokenizer's model (tokenizer.model) or of the
// files of its folder (tokenizer/), if it has one.
void keep_tokenizer(const std::string& tokenizer, const std::string& run_directory);
// That copy, as data.tokenizer can name it; empty if the run has none.
std::string kept_tokenizer(const std::string& run_directory);

// A relative path from `folder`, where something is there; else as it is.
std::string located(const std::string& path, const std::string& folder);

// The run's data section with paths that lead somewhere from here: the copy of the tokenizer; for a text, its token file in
// the run or in data.cache, found by content; else the path from the folder in which the run was started, or from this one.
core::DataConfig located_data(core::DataConfig data, const std::string& run_directory, const RunIdentity& identity);

// The tokens of `data`, with those of text that neither the run nor data.cache has encoded in a temporary folder, which is
// gone when this returns, also by what `poll` throws. Errors as prepare_dataset().
core::Dataset read_dataset(core::DataConfig data, const std::string& run_directory, std::int64_t vocabulary,
                           const core::Poll& poll = {});

}  // namespace muonp::launch
