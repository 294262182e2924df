// Files and folders with errors that say which path and why. Every file that matters is written beside its
// final place and renamed there, so that a reader finds the old content or the new one, never a part.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

struct FileSummary {
  std::int64_t bytes = 0;
  std::uint64_t checksum = 0;  // XXH3 (64 bits, seed 0) of the whole content
};

// A file being written. The bytes go to a temporary name in the same folder; commit() makes them durable (fsync) and gives
// them the final name in one step. Without commit() the temporary is removed and what stood under the final name stays as it
// was. Links are followed (core/files/output_target.h). What is no regular file gets the bytes with commit(), and not
// before; until then they are in the system's folder for temporary files.
class AtomicFile {
 public:
  // expected_bytes > 0 reserves the space at once, so that a full disk is an Error before anything is
  // written. The final size may differ.
  explicit AtomicFile(std::string path, std::int64_t expected_bytes = 0);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends. Error names the path and the cause, on a full disk also the bytes needed and free.
  void write(const void* data, std::int64_t bytes);
  void write(std::string_view data) { write(data.data(), std::ssize(data)); }
  // Replaces bytes that are already written (a header whose counts were not known). The checksum then needs a
  // second read of the file.
  void patch(std::int64_t offset, const void* data, std::int64_t bytes);
  std::int64_t bytes() const;
  const std::string& path() const;
  // Last call. The checksum is computed while writing.
  FileSummary commit();

 private:
  void put_at(std::int64_t offset, const void* data, std::int64_t bytes);
  struct State;
  std::unique_ptr<State> state_;
};

// Error: missing, a folder, no permission.
std::string read_file(const std::string& path);
// The first `most` bytes, or all of a shorter file.
std::string read_start(const std::string& path, std::size_t most);
// The whole content, replaced atomically.
FileSummary write_file(const std::string& path, std::string_view content);
// Reads the file in blocks; what it returns depends on the content only. `read` gets the bytes read so far after each
// block.
FileSummary summarize_file(const std::string& path, const std::function<void(std::int64_t)>& read = {});

bool exists(const std::string& path);
bool is_directory(const std::string& path);
std::int64_t file_size(const std::string& path);  // Error if it is no regular file
// Names of the entries (not their paths), sorted; without "." and "..".
std::vector<std::string> list_directory(const std::string& path);
void make_directories(const std::string& path);
// Removes a file or a folder with all that is in it; a path that does not exist is fine.
void remove_tree(const std::string& path);
// rename(2), replacing a file at `to`, then fsync of the folder.
void rename_path(const std::string& from, const std::string& to);
// Makes the names in a folder durable.
void sync_directory(const std::string& path);
// The folder that holds `path`; "." for a plain name.
std::string parent_directory(const std::string& path);
// A name beside `path` that no other process or call uses: "<path>.tmp-<host>-<pid>-<n>".
std::string temporary_name(const std::string& path);
// What stands between path and process in the temporary names of this host: ".tmp-<host>-".
std::string temporary_mark();

}  // namespace muonp::core
