#include "tests/e2e/browser.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <stdexcept>

namespace muonp::e2e {
namespace {

using nlohmann::json;

constexpr int kPatience = 60'000;  // milliseconds until an answer

std::string decoded_base64(const std::string& text) {
  static const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned held = 0;
  int bits = 0;
  for (const char c : text) {
    const std::size_t value = digits.find(c);
    if (value == std::string::npos) break;  // the padding
    held = held << 6 | static_cast<unsigned>(value);
    bits += 6;
    if (bits >= 8) bytes += static_cast<char>(held >> (bits -= 8) & 0xff);
  }
  return bytes;
}

// The protocol's pipes are the descriptors 3 and 4. They may be the ones that the pipes have here, so they are moved away
// first.
[[noreturn]] void become_chromium(int commands, int answers, const std::string& program, const std::string& folder) {
  const int in = fcntl(commands, F_DUPFD, 10), out = fcntl(answers, F_DUPFD, 10);
  dup2(in, 3);
  dup2(out, 4);
  for (int fd = 5; fd < 64; ++fd) close(fd);
  const int log = open((folder + "/chromium.log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(log, 1);
  dup2(log, 2);
  const std::string profile = "--user-data-dir=" + folder + "/profile";
  setpgid(0, 0);
  execl(program.c_str(), program.c_str(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--remote-debugging-pipe", "--no-first-run", "--disable-background-networking", "--disable-component-update",
        "--hide-scrollbars", profile.c_str(), "about:blank", nullptr);
  _exit(127);
}

}  // namespace

std::string Browser::program() {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    for (const char* name : {"/chromium", "/chromium-browser", "/google-chrome"})
      if (access((folder + name).c_str(), X_OK) == 0) return folder + name;
  return "";
}

Browser::Browser(const std::string& folder) {
  std::filesystem::create_directories(folder);
  std::array<int, 2> commands{}, answers{};
  if (pipe2(commands.data(), O_CLOEXEC) != 0 || pipe2(answers.data(), O_CLOEXEC) != 0)
    throw std::runtime_error("no pipes for chromium");
  std::signal(SIGPIPE, SIG_IGN);
  pid_ = fork();
  if (pid_ == 0) become_chromium(commands[0], answers[1], program(), folder);
  close(commands[0]);
  close(answers[1]);
  to_ = commands[1], from_ = answers[0];
  const json target = call("Target.createTarget", {{"url", "about:blank"}});
  session_ = call("Target.attachToTarget", {{"targetId", target.at("targetId")}, {"flatten", true}}).at("sessionId");
  for (const char* domain : {"Page", "Runtime", "Log", "Network"}) call(std::string(domain) + ".enable");
}

Browser::~Browser() {
  kill(-pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  close(to_);
  close(from_);
}

json Browser::receive() {
  for (std::size_t end; (end = received_.find('\0')) == std::string::npos;) {
    pollfd ready{from_, POLLIN, 0};
    std::array<char, 65536> part;
    if (poll(&ready, 1, kPatience) <= 0) throw std::runtime_error("chromium does not answer");
    const ssize_t got = read(from_, part.data(), part.size());
    if (got <= 0) throw std::runtime_error("chromium has ended; its words are in chromium.log");
    received_.append(part.data(), static_cast<std::size_t>(got));
  }
  const std::size_t end = received_.find('\0');
  json message = json::parse(received_.substr(0, end));
  received_.erase(0, end + 1);
  return message;
}

json Browser::call(const std::string& method, const json& parameters) {
  json message = {{"id", ++calls_}, {"method", method}, {"params", parameters}};
  if (!session_.empty()) message["sessionId"] = session_;
  const std::string text = message.dump() + '\0';
  for (std::size_t done = 0; done < text.size();) {
    const ssize_t put = write(to_, text.data() + done, text.size() - done);
    if (put <= 0) throw std::runtime_error("chromium has ended; its words are in chromium.log");
    done += static_cast<std::size_t>(put);
  }
  for (;;) {
    json answer = receive();
    if (!answer.contains("id")) {
      note(answer);
      continue;
    }
    if (answer.at("id") != calls_) continue;
    if (answer.contains("error")) throw std::runtime_error(method + ": " + answer.at("error").dump());
    return answer.at("result");
  }
}

void Browser::note(const json& event) {
  const std::string method = event.at("method");
  if (method == "Page.loadEventFired") loaded_ = true;
  const bool request = method == "Network.requestWillBeSent";
  if (request && event.at("params").at("request").at("url") == url_) return;
  if (request || method == "Runtime.consoleAPICalled" || method == "Runtime.exceptionThrown" || method == "Log.entryAdded")
    complaints_.push_back(event.dump());
}

void Browser::open(const std::string& file, const View& view) {
  call("Emulation.setDeviceMetricsOverride",
       {{"width", view.width}, {"height", view.height}, {"deviceScaleFactor", 1}, {"mobile", view.width < 600}});
  const json scheme = {{"name", "prefers-color-scheme"}, {"value", view.dark ? "dark" : "light"}};
  call("Emulation.setEmulatedMedia", {{"features", json::array({scheme})}});
  url_ = "file://" + std::filesystem::absolute(file).string();
  loaded_ = false;
  complaints_.clear();
  call("Page.navigate", {{"url", url_}});
  while (!loaded_) note(receive());
}

json Browser::evaluate(const std::string& expression) {
  const json result =
      call("Runtime.evaluate", {{"expression", expression}, {"returnByValue", true}, {"awaitPromise", true}});
  if (result.contains("exceptionDetails")) throw std::runtime_error(result.at("exceptionDetails").dump());
  const json& value = result.at("result");
  return value.contains("value") ? value.at("value") : json();
}

void Browser::press(const std::string& key) {
  static const std::map<std::string, int> codes = {{"Tab", 9},       {"Enter", 13},      {"Escape", 27},   {"PageUp", 33},
                                                   {"PageDown", 34}, {"End", 35},        {"Home", 36},     {"ArrowLeft", 37},
                                                   {"ArrowUp", 38},  {"ArrowRight", 39}, {"ArrowDown", 40}};
  json event = {{"type", "keyDown"}, {"key", key}, {"code", key}, {"windowsVirtualKeyCode", codes.at(key)}};
  if (key == "Enter") event["text"] = "\r";
  call("Input.dispatchKeyEvent", event);
  event["type"] = "keyUp";
  event.erase("text");
  call("Input.dispatchKeyEvent", event);
}

void Browser::move_pointer(double x, double y) {
  call("Input.dispatchMouseEvent", {{"type", "mouseMoved"}, {"x", x}, {"y", y}});
}

std::string Browser::picture(int width, int height) {
  const json clip = {{"x", 0}, {"y", 0}, {"width", width}, {"height", height}, {"scale", 1}};
  const json shot =
      call("Page.captureScreenshot", {{"format", "webp"}, {"quality", 70}, {"captureBeyondViewport", true}, {"clip", clip}});
  return decoded_base64(shot.at("data"));
}

}  // namespace muonp::e2e
