// Things of one kind that are handed out and, once nobody holds them any more, handed out again.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace muonp::optim::spectral {

// Outlives what it hands out.
template <class T>
class Pool {
 public:
  explicit Pool(std::function<T()> make) : make_(std::move(make)) {}
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // With what its last holder left in it.
  std::shared_ptr<T> take() {
    if (free_.empty()) {
      all_.push_back(std::make_unique<T>(make_()));
      free_.push_back(all_.back().get());
    }
    T* thing = free_.back();
    free_.pop_back();
    return {thing, [this](T* back) { free_.push_back(back); }};
  }
  int made() const { return static_cast<int>(all_.size()); }  // as many as were held at once

 private:
  std::function<T()> make_;
  std::vector<std::unique_ptr<T>> all_;
  std::vector<T*> free_;
};

}  // namespace muonp::optim::spectral
