"""The drafter: a small model that proposes what the large one may say next."""
