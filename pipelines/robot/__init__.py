"""The robot's room: a simulated Franka, its policies, and DROID recordings read and written."""
