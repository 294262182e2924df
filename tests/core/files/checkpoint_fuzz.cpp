// What the fuzzer runs: the readers of a checkpoint's two kinds of files on any bytes. An input that begins
// with 'm' is a manifest, any other one a piece file behind its first byte. Everything must be read or end in
// an Error; another exception or a crash is a finding.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/files/checkpoint_manifest.h"
#include "core/files/files.h"
#include "core/files/strict_json.h"
#include "tests/core/files/altered_checkpoint.h"
#include "tests/support/temporary_folder.h"

namespace {

using namespace muonp::core;

std::uint64_t checksum_of(const std::string& text) {
  return hash_bytes(text.data(), static_cast<std::int64_t>(text.size()));
}

void read(const std::string& manifest) { read_manifest(manifest, "manifest.json"); }

// As it is, and with the checksum that it should have.
void try_manifest(const std::string& text) {
  try {
    read(text);
  } catch (const Error&) {
  }
  try {
    nlohmann::json json = parse_strict_json(text);
    if (!json.is_object()) return;
    json.erase("manifest_xxh3");
    json["manifest_xxh3"] = checksum_text(checksum_of(json.dump()));
    read(json.dump());
  } catch (const Error&) {
  }
}

void try_piece_file(const std::string& content) {
  static const muonp::test::TemporaryFolder folder;
  static const std::string path = folder / "checkpoint";
  make_directories(path);
  const std::string name = "state-00000.safetensors";
  muonp::test::put(path + "/" + name, content);
  muonp::test::put(path + "/" + kManifestName,
                   write_manifest({1, {{name, static_cast<std::int64_t>(content.size()), checksum_of(content)}}, "{}"}));
  try {
    muonp::test::read_checkpoint(path);
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 'm')
    try_manifest(text);
  else
    try_piece_file(text);
  return 0;
}
