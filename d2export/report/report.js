// Turns the choice of a budget into a slider. Without this script the choice itself is used.
(() => {
  "use strict";
  const group = document.querySelector(".budgets");
  const choices = group ? [...group.querySelectorAll("input[type=radio]")] : [];
  if (choices.length < 2) return;

  const slider = document.createElement("input");
  slider.type = "range";
  slider.min = "0";
  slider.max = String(choices.length - 1);
  slider.step = "1";
  slider.setAttribute("aria-labelledby", "budgets-legend");

  const follow = () => {
    const index = choices.findIndex((choice) => choice.checked);
    slider.value = String(index);
    slider.setAttribute("aria-valuetext", choices[index].getAttribute("aria-label"));
  };
  slider.addEventListener("input", () => {
    choices[Number(slider.value)].checked = true;
    follow();
  });
  for (const choice of choices) {
    choice.tabIndex = -1; // the slider is what the keyboard reaches
    choice.addEventListener("change", follow);
  }
  group.insertBefore(slider, group.querySelector(".ticks"));
  group.classList.add("with-slider");
  follow();
})();
