#include "core/data/config.h"

namespace muonp::core {

void DataConfig::describe(Fields& f) {
  f.text("train", train, "text file, folder of text files, token file (.bin) or folder of token files", Presence::required);
  f.text("validation", validation, "the same for validation; empty: the last part of train");
  f.real("validation_fraction", validation_fraction, {.min = 0, .max = 0.9},
         "part of train kept for validation where `validation` is empty; 0: no validation");
  f.text("tokenizer", tokenizer, "byte, a model made by `muonp tokenize`, a tokenizer.json, or a folder that has one");
  f.text("cache", cache, "folder for token files made from text; empty: the run's folder");
  f.integer("sequence", sequence, {.min = 1, .max = 1 << 20}, "length of a training sequence [tokens]");
  f.integer("batch", batch, {.min = 1, .max = 1 << 24}, "sequences per step, over all ranks and passes");
  f.integer("micro_batch", micro_batch, {.min = 0, .max = 1 << 24}, "sequences per rank and pass; 0: all of a rank's");
  f.boolean("shuffle", shuffle, "a new order every epoch; false: the data's order");
}

}  // namespace muonp::core
