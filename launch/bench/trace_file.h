// What all ranks did and when, as one file that Perfetto (ui.perfetto.dev) and chrome://tracing open: the JSON of Google's
// "Trace Event Format".
#pragma once

#include <string>

#include "core/device/trace.h"
#include "launch/program/session.h"

namespace muonp::launch {

// Starts this rank's trace as soon after a barrier as all others. Their clocks are not compared: each counts from its own
// moment, so that lanes of different ranks are apart by what ranks leave a barrier apart, a few latencies of a message.
// Collective.
void start_together(Session& session, core::Trace& trace);

// Error on all ranks where rank 0 could not write the file later. Collective.
void require_trace_target(Session& session, const std::string& path);

// Rank 0 writes the spans of all ranks: a process a rank, in it a thread a lane ("host", "compute", "communication"); ts and
// dur in microseconds, to the nanosecond. Collective; the same Error on all ranks if it cannot.
void write_trace(Session& session, const core::Trace& trace, const std::string& path);

}  // namespace muonp::launch
