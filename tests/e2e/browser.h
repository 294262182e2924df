// A page as a person sees it, in headless Chromium, driven over its debugging pipe
// (https://chromedevtools.github.io/devtools-protocol).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace muonp::e2e {

struct View {
  int width = 1280, height = 900;
  bool dark = false;  // what the system prefers
};

class Browser {
 public:
  // Where chromium is; empty if it is not installed.
  static std::string program();

  // Starts it; its files go to `folder`. std::runtime_error where it does not start.
  explicit Browser(const std::string& folder);
  ~Browser();
  Browser(const Browser&) = delete;
  Browser& operator=(const Browser&) = delete;

  // Loads a file. What was complained of before is forgotten.
  void open(const std::string& file, const View& view);
  // The value of a JavaScript expression, which JSON can hold.
  nlohmann::json evaluate(const std::string& expression);
  // A key of the keyboard by its name: "Tab", "Enter", "ArrowLeft", "Home".
  void press(const std::string& key);
  void move_pointer(double x, double y);
  // Messages of the console, exceptions, and every request beside the page itself.
  const std::vector<std::string>& complaints() const { return complaints_; }
  // The upper part of the page, `height` pixels high, as WebP.
  std::string picture(int width, int height);

 private:
  nlohmann::json call(const std::string& method, const nlohmann::json& parameters = nlohmann::json::object());
  void note(const nlohmann::json& event);
  nlohmann::json receive();
  int pid_ = 0, to_ = -1, from_ = -1, calls_ = 0;
  bool loaded_ = false;
  std::string session_, received_, url_;
  std::vector<std::string> complaints_;
};

}  // namespace muonp::e2e
