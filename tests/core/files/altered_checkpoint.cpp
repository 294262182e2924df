#include "tests/core/files/altered_checkpoint.h"

#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/files/checkpoint_pieces.h"
#include "tests/support/temporary_folder.h"

namespace muonp::test {

using namespace muonp::core;

std::string save_small_checkpoint(const std::string& directory, std::int64_t step) {
  const CheckpointStore store(directory);
  CheckpointWriter writer = store.begin(step);
  std::vector<CheckpointEntry> entries;
  for (int rank = 0; rank < 2; ++rank) {
    std::vector<float> data(12);
    for (std::size_t i = 0; i < data.size(); ++i)
      data[i] = static_cast<float>(step * 100 + rank * 50) + static_cast<float>(i);
    const std::int64_t b = rank * 12;
    const std::vector<TensorPiece> pieces{{"a/master", {4, 6}, Dtype::float32, b, b + 12, data.data()},
                                          {"a/momentum", {4, 6}, Dtype::float32, b, b + 12, data.data()},
                                          {"b/master", {7}, Dtype::bfloat16, rank * 3, rank * 3 + 3 + rank, data.data()}};
    entries.push_back(write_pieces(CheckpointPart(directory, step), piece_file_name("state", rank), pieces));
  }
  writer.commit(entries, R"({"step": 3, "seconds": 1.5, "nested": {"list": [1, 2]}})");
  return store.path_of(step);
}

void read_checkpoint(const std::string& path) {
  Checkpoint checkpoint(path);
  checkpoint.verify();
  const PieceReader reader(checkpoint, "state");
  for (const std::string& name : reader.names()) {
    const Shape shape = reader.shape(name);
    const std::int64_t size = element_count(shape);
    if (size > 1 << 16) fail("{}: more elements of '{}' than its files have", path, name);
    std::vector<char> to(static_cast<std::size_t>(size * size_of(reader.dtype(name))));
    reader.read_raw(name, shape, reader.dtype(name), 0, size, to.data());
  }
}

void sign_checkpoint(const std::string& path) {
  using Json = nlohmann::json;
  const auto checksum = [](const std::string& text) {
    return fmt::format("{:016x}", hash_bytes(text.data(), static_cast<std::int64_t>(text.size())));
  };
  Json manifest = Json::parse(get(path + "/manifest.json"));
  for (Json& file : manifest.at("files")) {
    const std::string content = get(path + "/" + file.at("name").get<std::string>());
    file["bytes"] = content.size();
    file["xxh3"] = checksum(content);
  }
  manifest.erase("manifest_xxh3");
  manifest["manifest_xxh3"] = checksum(manifest.dump());
  put(path + "/manifest.json", manifest.dump(1));
}

}  // namespace muonp::test
