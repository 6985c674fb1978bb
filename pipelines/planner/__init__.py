"""From a frame, a goal picture and a state to the next motion of the arm."""
