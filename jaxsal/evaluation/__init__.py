"""How good a network is on scans whose true lesions are known, and which threshold suits it."""
