// What is a function of the step, in one grammar for numbers (StepValue) and for texts that stand for something else
// (StepText), as the exponents of a spectral power do:
//
//   A                            the same at every step
//   A@1 B@300 ...                values at steps, which count from 1 and rise; the last one stays. What is between,
//                                the kind of value says: straight lines between numbers, of other things each until the next
//   switch A@1 B@300 ...         each until the next
//   linear A@1 B@300 ...         straight lines
//   cosine A@1 B@300 ...         from each to the next A + (B - A)(1 - cos(pi x))/2, x from 0 to 1
//   logistic A B tau T width W   B + (A - B)/(1 + exp((s/S - T)/W)) at step s of the S of the run, 0 <= T <= 1 and
//                                W > 0 shares of the run (DynMuon, arXiv 2605.17109); after its last step as at that
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace muonp::core {

// How a run goes from value to value.
class StepSchedule {
 public:
  enum class Form : std::uint8_t { plain, switched, linear, cosine, logistic };

  // The length of the run. Error for values at steps that the run does not have; a run of no steps has room for any.
  void set_run(std::int64_t steps);
  // The schedule is relative to the run, and set_run() was not called.
  bool needs_run() const { return form_ == Form::logistic && run_ == 0; }
  bool constant() const { return form_ == Form::plain && steps_.size() == 1; }
  // There are values between those that are written; `plain` is what values without a word before them mean.
  bool continuous(Form plain) const;
  // Steps between which values only rise, or only fall; after the last one of the run nothing changes.
  std::vector<std::int64_t> turns() const { return form_ == Form::logistic ? std::vector<std::int64_t>{1, run_} : steps_; }
  bool operator==(const StepSchedule&) const = default;

 protected:
  // value(index) + share·(value(index + 1) − value(index)); share 0: value(index) alone. Error where needs_run().
  struct Place {
    std::size_t index = 0;
    double share = 0;
  };
  Place place(std::int64_t step, Form plain) const;
  // Takes the schedule from a text, and returns its values. Error that says what is valid.
  std::vector<std::string> read(std::string_view text);
  std::string write(const std::vector<std::string>& values) const;

 private:
  void read_points(std::string_view text, const std::vector<std::string_view>& words, std::vector<std::string>& values);
  void read_logistic(std::string_view text, const std::vector<std::string_view>& words, std::vector<std::string>& values);

  Form form_ = Form::plain;
  std::vector<std::int64_t> steps_ = {1};  // of the values; a logistic curve has none
  double tau_ = 0, width_ = 0;
  std::int64_t run_ = 0;  // steps; 0: not known
};

// A number at every step.
class StepValue : public StepSchedule {
 public:
  StepValue(double value = 0) : values_{value} {}
  static StepValue parse(std::string_view text);  // Error that says what is valid
  // Whether a text is more than one number: no number has what this looks for.
  static bool is_schedule(std::string_view text) { return text.find_first_of(" @") != std::string_view::npos; }

  double at(std::int64_t step) const;
  double smallest() const;  // no step's value is below
  double largest() const;
  std::string text() const;  // parse() gives the same value back
  bool operator==(const StepValue&) const = default;

 private:
  std::vector<double> values_;
};

// A text at every step; of two between which it is, and how far, who knows what they stand for.
class StepText : public StepSchedule {
 public:
  StepText(std::string_view text) : values_(read(text)) {}  // Error that says what is valid
  StepText(const std::string& text) : StepText(std::string_view(text)) {}
  StepText(const char* text) : StepText(std::string_view(text)) {}

  using Place = StepSchedule::Place;
  Place place(std::int64_t step) const { return StepSchedule::place(step, Form::switched); }
  bool continuous() const { return StepSchedule::continuous(Form::switched); }
  const std::vector<std::string>& values() const { return values_; }
  std::string text() const { return write(values_); }
  bool operator==(const StepText&) const = default;

 private:
  std::vector<std::string> values_;
};

}  // namespace muonp::core
