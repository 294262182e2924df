// The three streams that a process is started with, which may be closed, full, or read by nobody any more.
#pragma once

#include <string>

namespace muonp::launch {

// Opens /dev/null where standard input, output or error is closed: otherwise the next file that is opened would be taken
// for it. Output that nobody reads any more then fails with an error instead of a signal. First thing in main.
void open_standard_streams();

// Writes out what waits to be printed. Empty, or why what was printed is incomplete. A reader that has gone, or a terminal
// that was closed, wants no more, which is no error.
std::string output_problem();

}  // namespace muonp::launch
