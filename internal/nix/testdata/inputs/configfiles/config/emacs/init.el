;; empty
