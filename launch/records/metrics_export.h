// A run's metrics.jsonl for other tools, in one pass over the file and constant memory. Steps that were trained again after
// a crash are there once (launch/records/metric_lines.h).
#pragma once

#include <cstdint>
#include <string>

namespace muonp::launch {

struct ExportReport {
  std::string file;
  std::int64_t rows = 0;     // of the CSV, or records of the event file
  std::int64_t columns = 0;  // of the CSV, or tags
};

// RFC 4180 with \n as line break: a row a step, in order; the column `step` first, then one for each key in the order in
// which they first occur. Of lines of the same step (training, validation, a checkpoint) the later value of a key holds. A
// number is the shortest decimal that reads back to the same double; what was not finite is nan; true is 1, false 0; names
// in nested objects are joined by points; a cell is empty where the step has no such key. `metrics`: the path of a
// metrics.jsonl. Error: there is no line.
ExportReport export_csv(const std::string& metrics, const std::string& file);

// An event file for TensorBoard, DIRECTORY/events.out.tfevents.1.muonp, replaced if it is there: a scalar a number, its tag
// the key with "/" for ".", so that TensorBoard groups eval/..., its value rounded to float32; texts are left out. The time
// of an event is that of the file's last change less the training time since.
ExportReport export_tensorboard(const std::string& metrics, const std::string& directory);

}  // namespace muonp::launch
